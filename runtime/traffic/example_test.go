package traffic_test

import (
	"fmt"

	"nepcoc/runtime/traffic"
)

// A contract is a small file beside a model; every field must be there.
func ExampleParse() {
	_, err := traffic.Parse("model.contract.yaml", []byte("nepco_traffic: 1\nfirst_layer: ip\npackets: five\n"))
	fmt.Println(err)
	c, err := traffic.Named("nepco")
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := traffic.Parse("copy.yaml", c.YAML())
	fmt.Println(again.Length, again.Vocab(), again.Hash() == c.Hash(), err)
	// Output:
	// model.contract.yaml:3: traffic contract: packets: must be a whole number
	// 128 65541 true <nil>
}
