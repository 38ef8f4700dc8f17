package dataset_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler/dataset"
	"nepcoc/compiler/labels"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/traffic"
)

func lint(t *testing.T, s *dataset.Set) *dataset.Lint {
	t.Helper()
	l, err := s.Lint(dataset.DefaultBounds)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func leaks(l *dataset.Lint) (names []string) {
	for _, f := range l.Findings {
		if f.Leak {
			names = append(names, f.Name)
		}
	}
	return names
}

// shared reads a labelled capture of the shared data.
func shared(t *testing.T, contract, name string) *dataset.Set {
	t.Helper()
	path := testfiles.Path(t, name+".pcap.zst")
	c, err := traffic.Load(contract)
	if err != nil {
		t.Fatal(err)
	}
	l, err := labels.ReadSome(testfiles.Path(t, name+".csv.zst"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := dataset.Read([]string{path}, dataset.Options{Source: dataset.Source{Contract: c}, Labels: []*labels.Labels{l}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The public set that leaks by time and address is seen through, whatever the contract.
func TestLintLeaking(t *testing.T) {
	if testing.Short() {
		t.Skip("reads captures for seconds, under emulation for minutes")
	}
	for _, contract := range []string{"nepco", "nepco-stream"} {
		l := lint(t, shared(t, contract, "foundation/tasks/vpn/train"))
		found := map[string]dataset.Finding{}
		for _, f := range l.Findings {
			found[f.Name] = f
		}
		if f := found["time of the first packet"]; f.Accuracy < 0.95 || !f.Leak {
			t.Errorf("%s: time: %+v", contract, f)
		}
		if f := found["client address"]; f.Accuracy < 0.6 || !f.Leak || f.Seen {
			t.Errorf("%s: address: %+v", contract, f)
		}
	}
}

// Where nothing leaks, nothing is found: in the testbed, and in any set whose labels are shuffled.
func TestLintClean(t *testing.T) {
	for _, contract := range []string{"nepco", "nepco-bytes", "nepco-stream"} {
		set := testbed(t, contract, "train")
		l := lint(t, set)
		if got := leaks(l); got != nil {
			t.Errorf("testbed, %s: leaks %q", contract, got)
		}
		if !l.Within { // one recording tells nothing of what recordings give away
			t.Errorf("testbed, %s: %d recordings, guessed across them", contract, l.Groups)
		}
	}
	for _, contract := range []string{"nepco", "nepco-stream"} {
		set := shared(t, contract, "foundation/tasks/vpn/train")
		r := rand.New(rand.NewPCG(1, 2))
		r.Shuffle(len(set.Flows), func(i, j int) {
			set.Flows[i].Label, set.Flows[j].Label = set.Flows[j].Label, set.Flows[i].Label
		})
		if l := lint(t, set); l.Within {
			t.Errorf("shuffled, %s: %d recordings, guessed within them", contract, l.Groups)
		} else if len(l.Findings) != 0 {
			t.Errorf("shuffled, %s: %d findings, the first %+v", contract, len(l.Findings), l.Findings[0])
		}
	}
}

// Leaks that are planted one at a time are found and named, and what is proposed speaks of them.
func TestLintPlanted(t *testing.T) {
	if testing.Short() {
		t.Skip("reads captures for seconds, under emulation for minutes")
	}
	// The first packet's fields in a sequence of one-byte tokens behind CLS, IPv4.
	const ttl, id, seq = 1 + 8, 1 + 4, 1 + 20 + 4
	const byte9 = 4 + 9 // in the stream view: behind CLS, transport, side and length
	put := func(f *dataset.Flow, at int, values ...int) {
		f.Tokens = slices.Clone(f.Tokens)
		for k, v := range values {
			if at+k < len(f.Tokens) {
				f.Tokens[at+k] = int32(5 + v&255)
			}
		}
	}
	by := func(by dataset.By) func(s *dataset.Set) error {
		return func(s *dataset.Set) error {
			shares, err := dataset.ParseShares("70:10:20")
			if err != nil {
				return err
			}
			return s.Split(shares, by)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for name, c := range map[string]struct {
		plant        func(s *dataset.Set, f *dataset.Flow)
		want, remedy string
		// walk does what the remedy says, where it is no line of the contract (see TestRemedy).
		walk func(s *dataset.Set) error
	}{
		"TTL by class": {func(s *dataset.Set, f *dataset.Flow) { put(f, ttl, 40+f.Label) }, "ip.ttl of packet 1", "blank: [addresses, checksums, ports, ttl]", nil},
		"ranges of IP ID": {func(s *dataset.Set, f *dataset.Flow) {
			v := f.Label*2900 + r.IntN(2900)
			put(f, id, v>>8, v)
		}, "ip.id of packet 1", "blank: [addresses, checksums, ports, ip_id]", nil},
		"ranges of sequence numbers": {func(s *dataset.Set, f *dataset.Flow) {
			v := f.Label*190_000_000 + r.IntN(190_000_000)
			put(f, seq, v>>24, v>>16, v>>8, v)
		}, "tcp.seq of packet 1", "blank: [addresses, checksums, ports, tcp_seq]", nil},
		"order of recording": {func(s *dataset.Set, f *dataset.Flow) { f.First = int64(f.Label)*1e12 + int64(r.IntN(1e9)) }, "time of the first packet", "--by time", by(dataset.ByTime)},
		"an address for each class": {func(s *dataset.Set, f *dataset.Flow) {
			f.Key.Src = [16]byte{9, byte(f.Label)}
		}, "client address", "--by host", by(dataset.ByHost)},
		"a class from one capture": {func(s *dataset.Set, f *dataset.Flow) {
			if f.Label == 3 {
				f.Group = 0
			}
		}, "classes from one recording: " + testbed(t, "nepco-bytes", "calib").Labels[3], "leave the classes out", func(s *dataset.Set) error {
			s.Flows = slices.DeleteFunc(s.Flows, func(f dataset.Flow) bool { return f.Label == 3 })
			return nil
		}},
		"a byte of payload": {func(s *dataset.Set, f *dataset.Flow) { put(f, byte9, 100+f.Label) }, "byte 9 of the client", "shorten the contract", func(s *dataset.Set) error {
			for i := range s.Flows { // as a contract with client_bytes: 9 has it
				f := &s.Flows[i]
				f.Tokens = f.Tokens[:min(len(f.Tokens), byte9)]
			}
			return nil
		}},
		"duplicates": {func(s *dataset.Set, f *dataset.Flow) {
			if f.Split == 1 && r.IntN(10) == 0 {
				for i := range s.Flows {
					if s.Flows[i].Split == 0 && s.Flows[i].Label == f.Label {
						f.Tokens = s.Flows[i].Tokens
						return
					}
				}
			}
		}, "flows of later parts that an earlier part has, too", "nepcoc tokens --split", (*dataset.Set).DropDuplicates},
	} {
		contract := "nepco-bytes"
		if name == "a byte of payload" {
			contract = "nepco-stream"
		}
		set := testbed(t, contract, "train")
		parts := 1
		set.Splits, set.Groups = []string{"all"}, nil
		if name == "duplicates" {
			set.Splits, parts = []string{"train", "test"}, 2
		}
		for g := range 40 {
			set.Groups = append(set.Groups, fmt.Sprint("capture ", g))
		}
		kept := set.Flows[:0]
		for i := range set.Flows {
			f := set.Flows[i]
			if tcp := f.Key.Proto == 6; f.Key.V6 || name == "ranges of sequence numbers" && !tcp {
				continue // where the fields lie elsewhere
			}
			f.Group, f.Split = r.IntN(40), r.IntN(parts)
			kept = append(kept, f)
		}
		set.Flows = kept
		if parts > 1 {
			if err := set.DropDuplicates(); err != nil {
				t.Fatal(err)
			}
		}
		if got := leaks(lint(t, set)); got != nil {
			t.Fatalf("%s: before planting, leaks %q", name, got)
		}
		for i := range set.Flows {
			c.plant(set, &set.Flows[i])
		}
		l := lint(t, set)
		got := leaks(l)
		if !slices.Contains(got, c.want) || len(got) > 2 {
			t.Errorf("%s: leaks %q, want %q", name, got, c.want)
			continue
		}
		at := slices.IndexFunc(l.Findings, func(f dataset.Finding) bool { return f.Name == c.want })
		if !strings.Contains(l.Findings[at].Remedy, c.remedy) {
			t.Errorf("%s: the way out is %q, want %q", name, l.Findings[at].Remedy, c.remedy)
		}
		if _, err := json.Marshal(l); err != nil {
			t.Error(err)
		}
		if c.walk == nil {
			continue
		}
		if err := c.walk(set); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := leaks(lint(t, set)); slices.Contains(got, c.want) {
			t.Errorf("%s: what is proposed does not remove it: leaks %q", name, got)
		}
	}
}

// Of too few flows, or too few of other classes than the commonest, it is said that nothing would stand out: there the surest leak, a time that
// tells every label, is not found; else it is.
func TestLintFew(t *testing.T) {
	for _, c := range []struct {
		flows, others int
		few           bool
	}{{12, 6, true}, {19, 9, true}, {24, 12, false}, {200, 100, false}, {200, 8, true}} {
		set := testbed(t, "nepco", "calib")
		set.Flows = set.Flows[:c.flows]
		for i := range set.Flows {
			f := &set.Flows[i]
			f.Label = 0
			if i < c.others {
				f.Label = 1
			}
			f.First = int64(f.Label)*1e15 + int64(i)*1e6
		}
		l := lint(t, set)
		if found := slices.Contains(leaks(l), "time of the first packet"); l.TooFew != c.few || found == c.few {
			t.Errorf("%d flows, %d of the second class: too few %v, found %v", c.flows, c.others, l.TooFew, found)
		}
	}
}

func TestLintRefuses(t *testing.T) {
	set := testbed(t, "nepco", "calib")
	for i := range set.Flows {
		set.Flows[i].Label = 0
	}
	if _, err := set.Lint(dataset.DefaultBounds); err == nil || !strings.Contains(err.Error(), "two classes") {
		t.Errorf("one class: %v", err)
	}
}

// 50,000 flows.
func BenchmarkLint(b *testing.B) {
	set := testbed(b, "nepco", "train")
	n := len(set.Flows)
	for len(set.Flows) < 50_000 {
		f := set.Flows[len(set.Flows)%n]
		f.Key.SrcPort += uint16(len(set.Flows))
		f.First += int64(len(set.Flows)) * 1e9
		set.Flows = append(set.Flows, f)
	}
	for b.Loop() {
		if _, err := set.Lint(dataset.DefaultBounds); err != nil {
			b.Fatal(err)
		}
	}
}

// Fields are found where an open contract puts them: behind an Ethernet header, and by position where facts stand between.
func TestLintOpenContracts(t *testing.T) {
	c, err := traffic.Load("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	truth, err := labels.ReadSome("../../examples/testbed/train.csv")
	if err != nil {
		t.Fatal(err)
	}
	c.FirstLayer = traffic.LayerEthernet
	c.BytesPerPacket += 14
	set, err := dataset.Read([]string{"../../examples/testbed/train.pcap"}, dataset.Options{Source: dataset.Source{Contract: c}, Labels: []*labels.Labels{truth}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range set.Flows {
		f := &set.Flows[i]
		f.Tokens[1+6+5] = int32(5 + f.Label)        // the last byte of the source's address
		f.Tokens[1+14+8] = int32(5 + 100 + f.Label) // of IPv4, the hop limit; of IPv6, a byte of an address
	}
	got := leaks(lint(t, set))
	if !slices.Contains(got, "eth.src of packet 1") || !slices.Contains(got, "ip.ttl of packet 1") {
		t.Errorf("leaks %q", got)
	}
	c.FirstLayer, c.HeaderBytes = traffic.LayerIP, 40
	if set, err = dataset.Read([]string{"../../examples/testbed/train.pcap"}, dataset.Options{Source: dataset.Source{Contract: c}, Labels: []*labels.Labels{truth}}); err != nil {
		t.Fatal(err)
	}
	for i := range set.Flows {
		set.Flows[i].Tokens[9] = int32(5 + set.Flows[i].Label)
	}
	if got := leaks(lint(t, set)); !slices.Equal(got, []string{"position 9"}) {
		t.Errorf("leaks %q", got)
	}
}

// A set that was made elsewhere may have more parts than nepcoc tokens makes.
func TestLintManyParts(t *testing.T) {
	set := testbed(t, "nepco-stream", "calib")
	set.Splits = nil
	for p := range 12 {
		set.Splits = append(set.Splits, fmt.Sprint("part", p))
	}
	for i := range set.Flows {
		set.Flows[i].Split = i % 12
		set.Flows[i].Key.Src = [16]byte{byte(set.Flows[i].Label)}
	}
	if got := leaks(lint(t, set)); !slices.Contains(got, "client address") {
		t.Errorf("leaks %q", got)
	}
}

// A contract may cut packets within any header: fields are looked for in the bytes of the packet that has them alone.
func TestLintShortPackets(t *testing.T) {
	truth, err := labels.ReadSome("../../examples/testbed/calib.csv")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		layer string
		bytes int
		want  string
	}{
		{traffic.LayerEthernet, 10, "position 16"}, {traffic.LayerEthernet, 23, "position 16"},
		{traffic.LayerEthernet, 24, "ip.dsfield of packet 1"}, {traffic.LayerIP, 16, "ip.dsfield of packet 1"}, {traffic.LayerIP, 9, "position 2"},
	} {
		contract, err := traffic.Load("nepco-bytes")
		if err != nil {
			t.Fatal(err)
		}
		contract.FirstLayer, contract.BytesPerPacket = c.layer, c.bytes
		set, err := dataset.Read([]string{"../../examples/testbed/calib.pcap"}, dataset.Options{Source: dataset.Source{Contract: contract}, Labels: []*labels.Labels{truth}})
		if err != nil {
			t.Fatal(err)
		}
		// Of an IPv4 header, whatever the contract has there, and of what follows.
		at, two := 1, 1+c.bytes
		if c.layer == traffic.LayerEthernet {
			at, two = at+14, two+14
		}
		for i := range set.Flows {
			f := &set.Flows[i]
			for len(f.Tokens) < two+4 {
				f.Tokens = append(f.Tokens, 5)
			}
			f.Tokens[at], f.Tokens[at+1] = 5+0x45, int32(5+f.Label)
			f.Tokens[two] = int32(5 + f.Label) // no part of the first packet
		}
		for _, f := range lint(t, set).Findings {
			if strings.HasPrefix(f.Name, "ip.dst") || strings.HasPrefix(f.Name, "tcp") {
				t.Errorf("%s, %d bytes: %s is not there", c.layer, c.bytes, f.Name)
			}
		}
		if got := names(lint(t, set)); !slices.Contains(got, c.want) {
			t.Errorf("%s, %d bytes: no %s among %q", c.layer, c.bytes, c.want, got)
		}
	}
}

func names(l *dataset.Lint) (list []string) {
	for _, f := range l.Findings {
		list = append(list, f.Name)
	}
	return list
}

// Addresses that differ in their prefix alone are told apart.
func TestLintPrefix(t *testing.T) {
	contract, err := traffic.Load("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	contract.Blank = nil
	truth, err := labels.ReadSome("../../examples/testbed/calib.csv")
	if err != nil {
		t.Fatal(err)
	}
	set, err := dataset.Read([]string{"../../examples/testbed/calib.pcap"}, dataset.Options{Source: dataset.Source{Contract: contract}, Labels: []*labels.Labels{truth}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range set.Flows {
		if f := &set.Flows[i]; f.Key.V6 {
			for k := 8; k < 24; k++ { // of the source's address, behind CLS
				f.Tokens[1+k] = 5
			}
			f.Tokens[1+8] = int32(5 + f.Label)
		}
	}
	if got := leaks(lint(t, set)); !slices.Contains(got, "ipv6.src of packet 1") {
		t.Errorf("leaks %q", got)
	}
}
