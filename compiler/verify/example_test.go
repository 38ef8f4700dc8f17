package verify_test

import (
	"fmt"

	"nepcoc/compiler/verify"
)

// A bundle proves itself by its golden vectors; random inputs compare the two executors.
func ExampleRun() {
	r, err := verify.Run(verify.Options{Bundle: "../../runtime/bundle/testdata/format1/demo.nepco", Random: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range r.Checks {
		fmt.Println(c.Name, c.Cases, c.OK)
	}
	fmt.Println(r.OK())
	// Output:
	// golden vectors 16 true
	// reference = engine, random tokens 8 true
	// true
}
