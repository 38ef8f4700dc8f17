package verdict

import (
	"encoding/json"
	"strings"
	"testing"

	"nepcoc/runtime/flow"
)

// What a verdict stands on is beside it in every form: bytes of payload always, marks where
// there are any.
func TestMarks(t *testing.T) {
	r := record(t)
	r.Payload = 77
	for _, tc := range []struct {
		marks      flow.Marks
		json, text string
	}{
		{0, `"payload":77,"label"`, ""},
		{flow.MarkLost | flow.MarkOverload, `"payload":77,"incomplete":["lost","overload"],"label"`, " mark=lost mark=overload"},
		{flow.MarkRefused | flow.MarkTTL, `"payload":77,"anomaly":["refused","ttl"],"label"`, " mark=refused mark=ttl"},
		{flow.MarkCut | flow.MarkOverlap | flow.MarkInsufficient, `"payload":77,"incomplete":["cut"],"anomaly":["overlap"],"insufficient":true,"label"`, " mark=cut mark=overlap mark=insufficient"},
	} {
		r.Marks = tc.marks
		if got := string(r.AppendJSON(nil)); !strings.Contains(got, tc.json) || !json.Valid([]byte(got)) {
			t.Errorf("%s, want %s", got, tc.json)
		}
		want := strings.TrimSuffix(tc.json, `,"label"`)
		if got := string(r.AppendEVE(nil)); !strings.Contains(got, want) || !json.Valid([]byte(got)) {
			t.Errorf("%s, want %s", got, want)
		}
		if got := string(r.AppendText(nil)); !strings.HasSuffix(got, tc.text) {
			t.Errorf("%s, want %s", got, tc.text)
		}
	}
	// Every mark is in one group, and has a name of its own.
	seen := map[string]bool{}
	for i := range 16 {
		m := flow.Marks(1 << i)
		groups := 0
		for _, g := range []flow.Marks{flow.Incomplete, flow.Anomaly, flow.MarkInsufficient} {
			if g&m != 0 {
				groups++
			}
		}
		if groups == 0 {
			continue
		}
		if name := m.Name(0); groups != 1 || name == "" || seen[name] {
			t.Errorf("mark %d, %q, is in %d groups", i, name, groups)
		}
		seen[m.Name(0)] = true
	}
}
