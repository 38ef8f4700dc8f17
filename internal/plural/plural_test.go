package plural

import "testing"

func TestOf(t *testing.T) {
	for want, got := range map[string]string{
		"1 rule": Of(1, "rule"), "0 rules": Of(0, "rule"), "2 rules": Of(uint64(2), "rule"), "1 class": Of(int64(1), "class"), "3 classes": Of(3, "class"), "-1 rules": Of(-1, "rule"), "2 emergencies": Of(2, "emergency"),
		"is": Verb(1, "is", "are"), "are": Verb(uint32(0), "is", "are"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
