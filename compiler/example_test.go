package compiler_test

import (
	"context"
	"fmt"

	"nepcoc/compiler"
)

// A model and a capture become a bundle. What belongs to the model, traffic contract and class names, is found
// beside it.
func ExampleCompile() {
	o := compiler.Options{
		Model:           "../examples/model/demo.onnx",
		Calib:           "../examples/testbed/calib.pcap",
		Target:          "host",
		MaxDisagreement: compiler.DefaultMaxDisagreement,
	}
	o.Find("", nil)
	res, err := compiler.Compile(context.Background(), o)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, out := range res.Bundle.Manifest.Outputs {
		fmt.Println(i, out.Name, len(out.Labels), "classes, the first", out.Labels[0])
	}
	// Output: 0 logits 22 classes, the first DNS
}
