package engine_test

import (
	"fmt"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// An engine is shared; each worker has a context, and memory for what comes out.
func ExampleBind() {
	b, err := bundle.ReadFile("../bundle/testdata/format1/demo.nepco")
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := engine.Bind(b.Program, engine.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	c, out := e.NewContext(), e.NewOutput()
	g := &b.Golden[0]
	if err := c.Run(g.Tokens, g.Valid, out); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(out[0]), "logits; as the compiler stored them:", fmt.Sprint(out) == fmt.Sprint(g.Logits))
	// Output: 22 logits; as the compiler stored them: true
}
