package flow_test

import (
	"fmt"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// What a model would see of a capture's first flow.
func ExampleCollect() {
	src, err := capture.Open("../../examples/testbed/calib.pcap")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer src.Close()
	contract, err := traffic.Named("nepco-bytes")
	if err != nil {
		fmt.Println(err)
		return
	}
	flows, counts, err := flow.Collect(src, contract)
	if err != nil {
		fmt.Println(err)
		return
	}
	f := &flows[0]
	fmt.Println(len(flows), "flows of", counts.Read(), "packets")
	fmt.Println(f.Key, f.Reason, f.Tokens[:6])
	// Output:
	// 210 flows of 977 packets
	// UDP 10.77.2.2:34451 > 10.77.2.1:514 end [2 74 5 6 61 57]
}
