package classify_test

import (
	"fmt"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/verdict"
)

// Every flow of a capture gets one verdict.
func ExampleClassifier_Flows() {
	b, err := bundle.ReadFile("../bundle/testdata/format1/demo.nepco")
	if err != nil {
		fmt.Println(err)
		return
	}
	x, err := classify.Engine(b)
	if err != nil {
		fmt.Println(err)
		return
	}
	src, err := capture.Open("../../examples/testbed/calib.pcap")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer src.Close()
	labels := map[string]int{}
	_, err = classify.New(b, x).Flows(b, src, false, func(r *verdict.Record) error {
		labels[r.Verdicts[0].Label]++
		return nil
	})
	fmt.Println(labels["DNS"], "DNS", labels["SSH"], "SSH", err)
	// Output: 9 DNS 9 SSH <nil>
}
