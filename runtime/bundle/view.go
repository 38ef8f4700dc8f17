package bundle

import (
	"fmt"
	"time"
)

// View is what, beside the traffic contract, decides which bytes of which packets become a flow's
// tokens. A bundle holds the view that its figures were made with; whatever reads packets
// for it takes the same one, unless it is told otherwise. It is no part of the contract: a model is
// trained on flows, and does not know in what they were wrapped on their way.
type View struct {
	// Tunnels: packets in tunnels (see capture.Tunnel) are read, not the tunnels' own.
	Tunnels bool `json:"tunnels,omitempty"`
	// VLANs: packets with other VLAN ids are of other flows. Interfaces: so are those of other
	// interfaces of the capture.
	VLANs      bool `json:"vlans,omitempty"`
	Interfaces bool `json:"interfaces,omitempty"`
	// ActiveTimeout is an age beyond which a flow gets its verdict with its next
	// packet; 0: none.
	ActiveTimeout time.Duration `json:"active_timeout_ns,omitempty"`
}

// maxActive bounds ActiveTimeout.
const maxActive = 24 * time.Hour

// Validate checks the fields by themselves.
func (v View) Validate() error {
	if v.ActiveTimeout < 0 || v.ActiveTimeout > maxActive {
		return fmt.Errorf("active_timeout: %v is not within 0..%v", v.ActiveTimeout, maxActive)
	}
	return nil
}

// ViewOverride holds what is to be read otherwise than a bundle says; nil: as it says.
type ViewOverride struct {
	Tunnels, VLANs, Interfaces *bool
	ActiveTimeout              *time.Duration
}

// Of is the view v with what the override changes. The notes say what that is,
// since figures in the bundle then speak of other inputs.
func (o ViewOverride) Of(v View) (_ View, notes []string) {
	for _, f := range []struct {
		name    string
		want    *bool
		have    *bool
		on, off string
	}{
		{"tunnels", o.Tunnels, &v.Tunnels, "what tunnels carry", "the tunnels' own packets"},
		{"vlans", o.VLANs, &v.VLANs, "flows told apart by VLAN", "flows of all VLANs together"},
		{"interfaces", o.Interfaces, &v.Interfaces, "flows told apart by interface", "flows of all interfaces together"},
	} {
		if f.want == nil || *f.want == *f.have {
			continue
		}
		read := map[bool]string{true: f.on, false: f.off}
		notes = append(notes, fmt.Sprintf("%s: the bundle was made for %s, and %s are read here", f.name, read[*f.have], read[*f.want]))
		*f.have = *f.want
	}
	if o.ActiveTimeout != nil && *o.ActiveTimeout != v.ActiveTimeout {
		notes = append(notes, fmt.Sprintf("active timeout: the bundle was made with %v, %v is used here", v.ActiveTimeout, *o.ActiveTimeout))
		v.ActiveTimeout = *o.ActiveTimeout
	}
	return v, notes
}
