package main

import (
	"strings"
	"testing"

	"nepcoc/compiler/dataset"
)

// Only the part called train is learnt from; where none is, nothing is guessed.
func TestTrainingPart(t *testing.T) {
	set := &dataset.Set{Labels: []string{"a", "b"}, Splits: []string{"test", "train"}, Flows: []dataset.Flow{{Split: 0}, {Split: 1}, {Split: 1}}}
	if task, without, err := taskOf(set, "x"); err != nil || len(task.Examples) != 2 || len(without) != 1 {
		t.Errorf("%v, %v, %v", task, without, err)
	}
	set.Splits[1] = "valid"
	if _, _, err := taskOf(set, "x"); err == nil || !strings.Contains(err.Error(), "must be called train") {
		t.Error(err)
	}
	set.Splits = []string{"all"}
	for i := range set.Flows {
		set.Flows[i].Split = 0
	}
	if task, _, err := taskOf(set, "x"); err != nil || len(task.Examples) != 3 {
		t.Errorf("%v, %v", task, err)
	}
}
