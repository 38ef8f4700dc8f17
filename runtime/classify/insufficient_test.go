package classify_test

import (
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// A flow of too little payload gets no label, of any kind of output, whatever the model says; bundles that are older judge it.
func TestInsufficient(t *testing.T) {
	for _, c := range []struct {
		field, payload int
		insufficient   bool
	}{{0, 0, true}, {0, 1, false}, {bundle.MinPayloadOf(9), 8, true}, {bundle.MinPayloadOf(9), 9, false}, {bundle.MinPayloadOf(0), 0, false}} {
		b, err := testbundle.EveryKind(0)
		if err != nil {
			t.Fatal(err)
		}
		b.Manifest.MinPayload = c.field
		x, err := classify.Engine(b)
		if err != nil {
			t.Fatal(err)
		}
		cls := classify.New(b, x)
		g := &b.Golden[0]
		if _, err := cls.Run(g.Tokens, g.Valid); err != nil {
			t.Fatal(err)
		}
		r := verdict.Record{Payload: c.payload}
		cls.Fill(&r, false)
		given := 0
		for i := range r.Verdicts {
			v := &r.Verdicts[i]
			if v.Insufficient != c.insufficient || (v.Withheld() == "insufficient") != c.insufficient {
				t.Errorf("%d bytes, field %d: %+v", c.payload, c.field, v)
			}
			given += len(v.Given)
		}
		if c.insufficient && given > 0 {
			t.Errorf("%d labels of a flow of %d bytes", given, c.payload)
		}
		if got := r.Marks&flow.MarkInsufficient != 0; got != c.insufficient {
			t.Errorf("%d bytes, field %d: marks %v", c.payload, c.field, r.Marks.Names())
		}
		for _, form := range []string{string(r.AppendText(nil)), string(r.AppendJSON(nil)), string(r.AppendEVE(nil))} {
			if strings.Contains(form, "insufficient") != c.insufficient || c.insufficient && !strings.Contains(form, "candidate") {
				t.Errorf("%d bytes, field %d: %s", c.payload, c.field, form)
			}
		}
	}
	old, err := bundle.ReadFile("../bundle/testdata/format1/demo.nepco")
	if err != nil {
		t.Fatal(err)
	}
	if n := old.Manifest.LeastPayload(); n != 0 {
		t.Errorf("a bundle of version 1 asks for %d bytes", n)
	}
}
