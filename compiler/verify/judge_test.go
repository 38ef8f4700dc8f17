package verify

import (
	"math"
	"slices"
	"testing"
)

// By hand, three classes, one of them never true:
//
//	predicted 0 0 1 1 2 0
//	actual    0 1 1 1 0 -   (the last is not labelled)
//
// Class 0: 1 hit, 2 predicted, 2 actual, F1 = 2/4; class 1: 2 hits, 2 predicted,
// 3 actual, F1 = 4/5; class 2 does not occur.
func TestJudge(t *testing.T) {
	each := func(classes ...int) (all [][]int) {
		for _, c := range classes {
			if c < 0 {
				all = append(all, nil)
			} else {
				all = append(all, []int{c})
			}
		}
		return all
	}
	s, _ := judge(each(0, 0, 1, 1, 2, 0), each(0, 1, 1, 1, 0, -1), 3)
	if s == nil || s.Labelled != 5 || s.Accuracy != 3.0/5 || math.Abs(s.MacroF1-(0.5+0.8)/2) > 1e-12 {
		t.Errorf("%+v", s)
	}
	if s, _ := judge(each(1, 1), each(1, 1), 2); s.Accuracy != 1 || s.MacroF1 != 1 {
		t.Errorf("all right: %+v", s)
	}
	if s, _ := judge(each(0, 0), each(1, 1), 2); s.Accuracy != 0 || s.MacroF1 != 0 {
		t.Errorf("all wrong: %+v", s)
	}
	for name, labels := range map[string][][]int{"none": nil, "too few": each(1), "not labelled": each(-1, -1)} {
		if s, _ := judge(each(0, 1), labels, 2); s != nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// Any number of labels, by hand: accuracy is that of whole verdicts, and each label's by itself.
//
//	given   {}  {0}  {0,2}  {1}   {}
//	actual  {}  {0}  {0,1}  {1,2} not labelled
//
// Label 0: 2 of 2, right in 4 of 4. Label 1: 1 hit, 1 given, 2 actual, right in 3, F1 = 2/3. Label 2: no hit,
// 1 given, 1 actual, right in 2, F1 = 0.
func TestJudgeLabels(t *testing.T) {
	s, each := judge([][]int{{}, {0}, {0, 2}, {1}, {}}, [][]int{{}, {0}, {0, 1}, {1, 2}, nil}, 3)
	if s.Labelled != 4 || s.Accuracy != 2.0/4 || math.Abs(s.MacroF1-(1+2.0/3)/3) > 1e-12 {
		t.Errorf("%+v", s)
	}
	if want := []tally{{2, 2, 2}, {1, 1, 2}, {0, 1, 1}}; !slices.Equal(each, want) {
		t.Errorf("%+v, want %+v", each, want)
	}
}

// The part of the variance that no line per channel explains.
func TestFit(t *testing.T) {
	f := newFit(2)
	for i := range 100 {
		x := int32(i - 50)
		f.add([]float32{-3*float32(x) + 7, float32(x)}, []int32{x, x}, 1)
	}
	if e := f.relError(); e > 1e-9 {
		t.Errorf("lines: %g", e)
	}
	f = newFit(1)
	for i := range 1000 {
		f.add([]float32{float32(1 - i%2*2)}, []int32{int32(i / 2 % 2)}, 1)
	}
	if e := f.relError(); math.Abs(e-1) > 1e-6 {
		t.Errorf("nothing explained: %g", e)
	}
	if e := newFit(3).relError(); e != 0 {
		t.Errorf("no data: %g", e)
	}
}

// A mean over classes says over how many of them.
func TestBasis(t *testing.T) {
	for want, labels := range map[string][][]int{"2 of 3": {{0}, {1}, nil, {0}}, "all 3": {{0}, {1}, {2}, {2}}} {
		s, _ := judge([][]int{{0}, {0}, {2}, {0}}, labels, 3)
		if got := s.Basis(); got != want {
			t.Errorf("%v: %q, want %q", labels, got, want)
		}
	}
}
