package cli

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
)

type inner struct {
	A float64 `json:"a"`
	B float32 `json:"b,omitempty"`
}

type report struct {
	*inner
	inner2
	Name   string             `json:"name"`
	P      *float64           `json:"p,omitempty"`
	List   []inner            `json:"list"`
	Nil    []inner            `json:"nil"`
	Empty  []inner            `json:"empty,omitempty"`
	M      map[string]float64 `json:"m"`
	Bytes  []byte             `json:"bytes"`
	Any    any                `json:"any"`
	T      time.Time          `json:"t"`
	Array  [2]float64         `json:"array"`
	Hidden float64            `json:"-"`
	own    float64
	Plain  float64
	Deep   struct{ X *inner } `json:"deep"`
	Since  time.Time          `json:"since,omitzero"`
	From   inner              `json:"from,omitzero"`
	None   *time.Time         `json:"none,omitzero"`
}

type inner2 struct {
	C float64 `json:"c"`
}

// Where all figures are numbers, the bytes are encoding/json's.
func TestJSONAsStandard(t *testing.T) {
	p := 0.25
	for _, v := range []any{
		report{inner: &inner{A: 1.5}, P: &p, Name: "a<b>\"\u00e9", List: []inner{{1, 2}, {}}, M: map[string]float64{"z": 1, "a": 2}, Bytes: []byte("xy"), Any: map[string]any{"k": []int{1}}, T: time.Unix(5, 0).UTC(), Hidden: 1, own: 2},
		&report{}, report{Any: inner{}}, nil, 1.0, "x", []string{"a"}, map[string]inner{"x": {}}, struct{ X *inner }{},
		[]any{nil, 1e300, math.Copysign(0, -1), float32(0.1)},
	} {
		want, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := JSON(&got, v); err != nil || got.String() != string(want)+"\n" {
			t.Errorf("%v:\n%s\nwant\n%s", err, got.String(), want)
		}
	}
}

// A figure that is no number is null, wherever it stands.
func TestJSONNotANumber(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(-1)
	for _, tc := range []struct {
		v    any
		want string
	}{
		{nan, "null"},
		{[]float64{1, inf}, `[1,null]`},
		{[1]float32{float32(inf)}, `[null]`},
		{map[string]float64{"x": nan}, `{"x":null}`},
		{struct {
			*inner
			X any `json:"x,omitempty"`
		}{&inner{A: nan, B: float32(inf)}, &nan}, `{"a":null,"b":null,"x":null}`},
	} {
		var got, compact bytes.Buffer
		if err := JSON(&got, tc.v); err != nil {
			t.Error(err)
			continue
		}
		if err := json.Compact(&compact, got.Bytes()); err != nil || compact.String() != tc.want {
			t.Errorf("%s, want %s", compact.String(), tc.want)
		}
	}
}
