package traffic

import (
	"strings"
	"testing"
)

// Every byte survives being written as a number and read back, in each encoding of bytes.
func TestEncodings(t *testing.T) {
	for _, e := range []Encoding{EncodingByte, EncodingByte255, Normalized(127.5, 127.5), Normalized(0.485*255, 0.229*255), Normalized(0, 0.5)} {
		if _, _, ok := e.Affine(); !ok {
			t.Errorf("%s is no encoding", e)
		}
		for b := range 256 {
			if got, ok := e.Byte(float64(e.Value(b))); !ok || got != b {
				t.Fatalf("%s: byte %d is %g, which is byte %d", e, b, e.Value(b), got)
			}
		}
		for _, b := range []int{-1, 256} {
			if got, ok := e.Byte(float64(e.Value(b))); ok {
				t.Errorf("%s: %d is taken for byte %d", e, b, got)
			}
		}
	}
	if v := Normalized(127.5, 127.5).Value(255); v != 1 {
		t.Errorf("(255-127.5)/127.5 is %g", v)
	}
	for _, e := range []Encoding{EncodingToken, "", "nibble", "(byte-1)/0", "(byte-01)/2", "(byte-1)/NaN", "(byte-1)/-2", "(byte - 1)/2", "(byte-1.0)/2"} {
		if _, _, ok := e.Affine(); ok {
			t.Errorf("%q is an encoding", e)
		}
	}
}

// A contract with a mean and a deviation is one text, and another spelling says what is wrong.
func TestNormalizedContract(t *testing.T) {
	c, _ := Named("byte")
	c.Encoding = Normalized(127.5, 127.5)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	again, err := Parse("c", c.YAML())
	if err != nil || again.Hash() != c.Hash() || again.Encoding != "(byte-127.5)/127.5" {
		t.Errorf("%v: %+v", err, again)
	}
	_, err = Parse("c", []byte(strings.Replace(string(c.YAML()), "(byte-127.5)/127.5", "(byte-127.50)/127.5", 1)))
	if err == nil || !strings.Contains(err.Error(), "(byte-127.5)/127.5 with numbers in their shortest form") {
		t.Error(err)
	}
}
