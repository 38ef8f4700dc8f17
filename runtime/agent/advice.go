package agent

import (
	"context"
	"fmt"
	"time"

	"nepcoc/internal/plural"
)

// adviceEvery is how often an agent that runs is looked at for what keeps the model
// from seeing what it was trained on.
const adviceEvery = 10 * time.Second

// Advise logs, once each, what of the traffic is other than the model was trained on
// and can be mended where packets come from, until ctx is done. At the end, Notes has it again.
func (a *Agent) Advise(ctx context.Context) {
	t := time.NewTicker(adviceEvery)
	defer t.Stop()
	said := [2]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r := a.Report()
		for i, s := range []string{r.MergedNote(), r.Flow.OneSidedNote()} {
			if s != "" && !said[i] {
				said[i] = true
				a.opt.Log.Warn(s)
			}
		}
	}
}

// MergedNote says so where the system has merged packets.
func (r *Report) MergedNote() string {
	const wayOut = "`ethtool -K INTERFACE gro off lro off`, and tso, gso and gro off at the other end of a virtual cable"
	switch k := &r.Kernel; {
	case k.Unsplit > 0:
		return fmt.Sprintf("%s merged by the system (GRO, LRO, TSO) and read as one each, which no packet on the wire was: %s", plural.Of(k.Unsplit, "packet")+plural.Verb(k.Unsplit, " was", " were"), wayOut)
	case k.Merged > 0:
		return fmt.Sprintf("%s merged by the system (GRO, LRO, TSO) and put apart again; what spares that is %s", plural.Of(k.Merged, "packet")+plural.Verb(k.Merged, " was", " were"), wayOut)
	}
	return ""
}
