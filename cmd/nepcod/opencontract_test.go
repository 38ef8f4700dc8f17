package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// check-config asks for as much of each packet as a contract's choices need: behind an Ethernet header less of IP,
// for payload or shares the longest headers besides.
func TestOpenContracts(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		open func(c *traffic.Contract)
		want int // bytes of a packet, behind the link's header
	}{
		"from IP on": {func(c *traffic.Contract) {}, 128},
		"Ethernet":   {func(c *traffic.Contract) { c.FirstLayer = traffic.LayerEthernet }, 128 - 14},
		"payload":    {func(c *traffic.Contract) { c.FirstLayer, c.Blank = traffic.LayerPayload, nil }, 120 + 128},
		"two shares": {func(c *traffic.Contract) { c.HeaderBytes = 48 }, 120 + 128 - 48},
	} {
		p, err := testbundle.Program(1)
		if err != nil {
			t.Fatal(err)
		}
		c, err := traffic.Named("byte")
		if err != nil {
			t.Fatal(err)
		}
		c.Length = p.Length
		tc.open(&c)
		b, err := testbundle.Make(p, c, "class")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		model := filepath.Join(dir, "model.nepco")
		if err := testbundle.Write(model, b, bundle.Options{}); err != nil {
			t.Fatal(err)
		}
		for snap, taken := range map[int]bool{tc.want + 13: false, tc.want + 14: true} {
			config := filepath.Join(dir, "config.yaml")
			text := fmt.Sprintf("bundle: %s\ninterface: lo\nreceive: {snaplen: %d}\noutput: {to: /dev/null}\n", model, snap)
			if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			doMain([]string{"check-config", config}, &out, &errs)
			want := fmt.Sprintf("receive.snaplen: %d cuts packets below the %d bytes", snap, tc.want)
			if refused := strings.Contains(errs.String(), want); refused == taken || strings.Contains(errs.String(), "snaplen") == taken {
				t.Errorf("%s, snap length %d: %s%s", name, snap, out.String(), errs.String())
			}
		}
	}
}
