//go:build linux

package load_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/load"
)

// What is sent over a cable arrives, each packet once, between the instances' hosts.
func TestCable(t *testing.T) {
	n := testnet.New(t)
	src, err := capture.Open(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	s, err := load.ReadScript(src, load.Options{Gap: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var wire *load.Interface
	var ring *afpacket.Ring
	n.Do(func() {
		if wire, err = load.Open(testnet.Near); err != nil {
			t.Fatal(err)
		}
		if _, err := load.Open("nosuch0"); err == nil || !strings.Contains(err.Error(), "ip link") {
			t.Error(err)
		}
		rings, err := afpacket.Open(testnet.Far, 1, afpacket.Options{Promiscuous: true})
		if err != nil {
			t.Fatal(err)
		}
		ring = rings[0]
	})
	defer wire.Close()
	defer ring.Close()
	if n := s.Fit(wire.MTU); n != 0 || wire.MTU != testnet.MTU {
		t.Fatalf("%d flows don't fit into %d bytes", n, wire.MTU)
	}
	const first = 1000
	flows := 2 * len(s.Flows)
	sent, err := s.Run(context.Background(), load.Rate{Flows: 4 * float64(flows), Length: 250 * time.Millisecond}, first, load.NewMachine(), wire)
	if err != nil || sent.Flows != flows || sent.Failed > 0 {
		t.Fatalf("%+v, %v", sent, err)
	}
	got := make([]int, flows)
	total := 0
	var f capture.Frame
	var p capture.Packet
	for end := time.Now().Add(time.Minute); total < sent.Packets && time.Now().Before(end); {
		if err := ring.Next(&f); errors.Is(err, capture.ErrEmpty) {
			ring.Wait(10 * time.Millisecond)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if kind := capture.Decode(&f, &p); kind != capture.KindOK {
			t.Fatal(kind)
		}
		k := flow.KeyOf(&p)
		i, ok := load.Instance(k.SrcAddr().Addr(), k.DstAddr().Addr())
		if i -= first; !ok || int(i) >= flows {
			t.Fatalf("%v is of no instance", k)
		}
		if p.Verify(f.Length, capture.TrustWire); p.Faults&capture.Dropped != 0 {
			t.Fatalf("%v: %v", k, p.Faults)
		}
		got[i]++
		total++
	}
	for i, n := range got {
		if want := s.Flows[i%len(s.Flows)].Packets(); n != want {
			t.Fatalf("%d of %d packets of instance %d", n, want, i)
		}
	}
}

// An interface by which a machine reaches other networks is told.
func TestDefaultRoute(t *testing.T) {
	n := testnet.New(t)
	n.Do(func() {
		if load.HasDefaultRoute(testnet.Near) {
			t.Error("a default route in a network without any")
		}
		for _, args := range []string{"addr add 10.9.0.1/24 dev near", "route add default via 10.9.0.2"} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", args, err, out)
			}
		}
		if !load.HasDefaultRoute(testnet.Near) || load.HasDefaultRoute(testnet.Far) {
			t.Error("the default route is not told")
		}
	})
}
