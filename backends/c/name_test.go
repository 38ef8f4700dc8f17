package c_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	emit "nepcoc/backends/c"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/flow"
)

// Flows have the names that the agent gives them, whatever their addresses are: every shortest form of IPv6.
func TestNames(t *testing.T) {
	testfiles.Tool(t, "gcc")
	const program = `#include "nepco_it.h"
#include <stdio.h>
#include <string.h>
int main(void)
{
	static nepco_it_entry e;
	uint8_t b[NEPCO_IT_FLOW_KEY + 1];
	char name[NEPCO_IT_ENTRY_NAME];
	while (fread(b, 1, sizeof b, stdin) == sizeof b) {
		memcpy(e.key, b, NEPCO_IT_FLOW_KEY);
		e.client = b[NEPCO_IT_FLOW_KEY];
		nepco_it_entry_name(&e, name);
		puts(name);
	}
	return 0;
}
`
	r := rand.New(rand.NewPCG(5, 6))
	var input []byte
	var want strings.Builder
	for i := range 4000 {
		k := flow.Key{Proto: []byte{6, 17}[r.IntN(2)], V6: i%4 > 0, SrcPort: uint16(r.Uint32()) >> r.IntN(16), DstPort: uint16(r.Uint32())}
		for _, end := range []*[16]byte{&k.Src, &k.Dst} {
			for at := range end {
				if !k.V6 && at >= 4 {
					break
				}
				if r.IntN(3) == 0 && (at%2 == 1 || r.IntN(2) == 0) {
					end[at] = byte(r.Uint32()) >> r.IntN(8)
				}
			}
			if k.V6 && r.IntN(20) == 0 { // IPv4 in IPv6
				clear(end[:10])
				end[10], end[11] = 0xff, 0xff
			} else if k.V6 && r.IntN(100) == 0 {
				clear(end[:])
			}
		}
		c, swapped := k.Canonical()
		key := append([]byte{c.Proto, 4}, c.Src[:]...)
		if c.V6 {
			key[1] = 6
		}
		key = append(binary.BigEndian.AppendUint16(key, c.SrcPort), c.Dst[:]...)
		key = append(binary.BigEndian.AppendUint16(key, c.DstPort), 0)
		if swapped {
			key[len(key)-1] = 1
		}
		input = append(input, key...)
		want.WriteString(k.String() + "\n")
	}
	dir := library(t, stored(t, "demo"), emit.Options{Name: "it"}, sanitized...)
	cmd := exec.Command(linkText(t, dir, "names.c", program, sanitized...))
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%.3000s", err, out)
	}
	if d := cmp.Diff(want.String(), string(out)); d != "" {
		t.Errorf("%.3000s", d)
	}
}
