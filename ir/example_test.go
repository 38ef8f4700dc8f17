package ir_test

import (
	"fmt"

	"nepcoc/ir"
)

// The textual form goes both ways; Check holds a graph to the rules of its operators.
func ExampleParse() {
	g, err := ir.Parse(`graph "one" {
  %x = input f32[4,8]
  %y = act(%x) {fn="relu"} : f32[4,8]
  output %y as "logits"
}
`)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(ir.Print(g))
	fmt.Println(ir.Check(g))
	// Output:
	// graph "one" {
	//   %x = input f32[4,8]
	//   %y = act(%x) {fn="relu"} : f32[4,8]
	//   output %y as "logits"
	// }
	// <nil>
}
