package labels

import (
	"net/netip"
	"strings"
	"testing"

	"nepcoc/runtime/flow"
)

// Label files know 5-tuples: rows fit flows wherever they were seen.
func TestFlowsOfTunnels(t *testing.T) {
	l, err := Parse("x.csv", strings.NewReader("proto,src,sport,dst,dport,label\nTCP,10.0.0.1,40001,10.0.1.1,443,TLS\n"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := flow.MakeKey(6, netip.MustParseAddrPort("10.0.1.1:443"), netip.MustParseAddrPort("10.0.0.1:40001"))
	if err != nil {
		t.Fatal(err)
	}
	k.Tunnel, k.VLAN, k.Interface = 7, [2]uint16{1, 2}, 3
	if row, m := l.Find(k, 0); row != 0 || m != Fits {
		t.Errorf("row %d, %v", row, m)
	}
}
