package plan

import (
	"testing"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture/afpacket"
)

// What the plan says of the agent's memory is the agent's.
func TestAgentDefaults(t *testing.T) {
	if ringBytes != afpacket.DefaultBlockSize*afpacket.DefaultBlocks {
		t.Errorf("a ring of %d bytes is reckoned with", ringBytes)
	}
	if queueBatches != agent.DefaultQueue || chunks != agent.DefaultChunks {
		t.Errorf("%d batches and %d chunks are reckoned with", queueBatches, chunks)
	}
}
