package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
)

// eveFields are what events consist of, and the types that Suricata's schema
// (etc/schema.json of its sources) gives these fields. It knows no others in
// these places; our object nepco stands beside them.
var eveFields = []struct {
	event  string // "": in every kind of event
	object string // "": in the event itself
	fields string
}{
	{"", "", "timestamp:time flow_id:integer event_type:string src_ip:address src_port:integer dest_ip:address dest_port:integer proto:string ip_v:integer flow:object community_id:string nepco:object"},
	{"", "flow", "pkts_toserver:integer pkts_toclient:integer bytes_toserver:integer bytes_toclient:integer start:time"},
	{"flow", "flow", "end:time age:integer state:string reason:string alerted:boolean"},
	{"alert", "", "alert:object"},
	{"alert", "alert", "action:string gid:integer signature_id:integer rev:integer signature:string category:string severity:integer"},
}

// eveTypes are the types of fields. Addresses and times are strings to the
// schema, whose pattern for the event's own time is the one here.
var eveTypes = map[string]func(v any) bool{
	"string":  func(v any) bool { s, ok := v.(string); return ok && s != "" },
	"boolean": func(v any) bool { _, ok := v.(bool); return ok },
	"object":  func(v any) bool { _, ok := v.(map[string]any); return ok },
	"integer": func(v any) bool { n, ok := v.(float64); return ok && n >= 0 && n == math.Trunc(n) },
	"address": func(v any) bool { s, _ := v.(string); _, err := netip.ParseAddr(s); return err == nil },
	"time": func(v any) bool {
		s, _ := v.(string)
		_, err := time.Parse("2006-01-02T15:04:05.000000-0700", s)
		return err == nil
	},
}

// eveRun classifies our capture, in EVE's form.
func eveRun(t *testing.T, sink io.Writer) ([]string, *agent.Report) {
	t.Helper()
	m := testModel(t, 0, "class")
	mem, _ := load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	return runAgent(t, t.Context(), agent.Options{
		Sources: []capture.Source{mem}, Model: m, Lossless: true, Format: agent.Formats["eve"], Alerts: m.Bundle.Manifest.Outputs[0].Labels[:2], Sink: sink,
	})
}

// Every event has every field, of the type that Suricata's schema wants, and no
// other.
func TestEVEFields(t *testing.T) {
	got, r := eveRun(t, nil)
	events := map[string]uint64{}
	for _, l := range got {
		var e map[string]any
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		kind, _ := e["event_type"].(string)
		events[kind]++
		objects := map[string]map[string]any{"": e}
		for _, name := range []string{"flow", "alert"} {
			objects[name], _ = e[name].(map[string]any)
		}
		for _, row := range eveFields {
			if row.event != "" && row.event != kind {
				continue
			}
			for _, f := range strings.Fields(row.fields) {
				name, typ, _ := strings.Cut(f, ":")
				if v, ok := objects[row.object][name]; !ok || !eveTypes[typ](v) {
					t.Errorf("%s %s is %v, want %s: %s", row.object, name, v, typ, l)
				}
				delete(objects[row.object], name)
			}
		}
		delete(objects[""], "vlan") // of flows with a tag; see package verdict's tests
		for where, object := range objects {
			if len(object) > 0 {
				t.Errorf("%s has %v too: %s", where, object, l)
			}
		}
	}
	if events["flow"] != r.Records || events["alert"] != r.Alerts || r.Alerts == 0 {
		t.Errorf("%v, %d records, %d alerts", events, r.Records, r.Alerts)
	}
}

// A real reader of EVE (fever, which routes and adds up Suricata's events) takes
// every event from our socket: it passes all of them on, and its report of flows
// is what ours add up to.
func TestEVEConsumer(t *testing.T) {
	fever := testfiles.Tool(t, "fever")
	dir, err := os.MkdirTemp("", "eve") // short: a socket's name has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	listener, err := net.Listen("unix", out)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	config := filepath.Join(dir, "fever.yaml")
	forward := fmt.Sprintf("multi-forward: {all: {socket: %s, all: true, types: [], buffer-length: 100000}}\n", out)
	if err := os.WriteFile(config, []byte(forward), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, fever, "run", "--config", config, "--dummy", "--logjson", "--in-socket", in,
		"--flowreport-interval", "2s", "--mgmt-socket", filepath.Join(dir, "mgmt"))
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cancel()
	for _, err = os.Stat(in); err != nil && ctx.Err() == nil; _, err = os.Stat(in) {
		time.Sleep(10 * time.Millisecond)
	}

	want, _ := eveRun(t, nil)
	sink, err := agent.OpenSink(t.Context(), "unix:"+in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, r := eveRun(t, sink); r.Written != r.Records {
		t.Fatal(r)
	}
	sink.(io.Closer).Close()

	// What is passed on are the lines themselves, with their latencies, so only
	// those are left out of the comparison.
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	passed := map[string]int{}
	for sc := bufio.NewScanner(conn); len(passed) < len(want) && sc.Scan(); {
		passed[withoutLatency(sc.Text())]++
	}
	type sum struct {
		Count    int `json:"count"`
		ToClient int `json:"total_bytes_toclient"`
		ToServer int `json:"total_bytes_toserver"`
	}
	sums := map[string]sum{}
	for _, l := range want {
		if passed[withoutLatency(l)] != 1 {
			t.Fatalf("%d of %d events passed on, not this one: %s", len(passed), len(want), l)
		}
		var e struct {
			Event string `json:"event_type"`
			Src   string `json:"src_ip"`
			Dst   string `json:"dest_ip"`
			Port  int    `json:"dest_port"`
			Proto string
			Flow  struct {
				ToClient int `json:"bytes_toclient"`
				ToServer int `json:"bytes_toserver"`
			}
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatal(err)
		}
		// fever reports TCP flows that have been answered.
		if e.Event == "flow" && e.Proto == "TCP" && e.Flow.ToClient > 0 {
			key := fmt.Sprintf("%s_%s_%d", e.Src, e.Dst, e.Port)
			s := sums[key]
			sums[key] = sum{s.Count + 1, s.ToClient + e.Flow.ToClient, s.ToServer + e.Flow.ToServer}
		}
	}
	reported := map[string]sum{}
	for sc := bufio.NewScanner(log); !maps.Equal(reported, sums) && sc.Scan(); {
		var entry struct{ Submitter, Msg string }
		var report struct{ Tuples map[string]sum }
		if json.Unmarshal(sc.Bytes(), &entry) != nil || entry.Submitter != "dummy" || json.Unmarshal([]byte(entry.Msg), &report) != nil {
			continue // another line of its log
		}
		for key, s := range report.Tuples {
			all := reported[key]
			reported[key] = sum{all.Count + s.Count, all.ToClient + s.ToClient, all.ToServer + s.ToServer}
		}
	}
	if !maps.Equal(reported, sums) {
		t.Errorf("fever adds up %v, want %v", reported, sums)
	}
	t.Logf("%d events passed on, %d services in the report", len(passed), len(reported))
}

// withoutLatency cuts the one field that differs from run to run out of a line.
func withoutLatency(l string) string {
	head, _, _ := strings.Cut(l, `,"latency_us":`)
	return head
}
