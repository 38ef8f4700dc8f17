package agent_test

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/files"
	"nepcoc/internal/testbundle"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/traffic"
)

func contractOf(b *bundle.Bundle) (traffic.Contract, error) { return classify.Contract(b) }

// changes is how many hot changes the test makes: 100, and 1,000 in a soak.
func changes() int {
	if os.Getenv("NEPCOC_SOAK") != "" {
		return 1000
	}
	return 100
}

// Through all changes of the model, from files, under traffic, no flow
// is lost, every verdict is that of one of the models, and nothing is left
// behind.
func TestSwaps(t *testing.T) {
	for _, tc := range []struct {
		name      string
		contracts bool // the models have contracts of their own
	}{{"one contract", false}, {"two contracts", true}} {
		t.Run(tc.name, func(t *testing.T) {
			bundles := []*bundle.Bundle{testBundle(t, 0, "a"), testBundle(t, 1, "b")}
			if tc.contracts {
				c, err := contractOf(bundles[1])
				if err != nil {
					t.Fatal(err)
				}
				c.Packets, c.BytesPerPacket = 2, 200
				bundles[1] = bundleOf(t, testProgram(t, 1), c, "b")
			} else if a, b := bundles[0].Program.Length, bundles[1].Program.Length; a != b {
				// The same program with other labels has the same contract.
				bundles[1] = testBundle(t, 0, "b")
			}
			testSwaps(t, bundles)
		})
	}
}

func testSwaps(t *testing.T, bundles []*bundle.Bundle) {
	const flows, packets, size = 1 << 12, 2, 5
	file := filepath.Join(t.TempDir(), "model.nepco")
	config := agent.DefaultConfig()
	config.Bundle = file
	config.Probation.OverBudget = "warn" // what a busy machine has time for is not looked at here
	want := map[string]string{}
	var encoded [][]byte
	for _, b := range bundles {
		for src, label := range answers(t, b, flows, packets, size) {
			want[src+"/"+label[:1]] = label
		}
		data, err := bundle.Encode(b, bundle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		encoded = append(encoded, data)
	}
	write := func(i int) {
		if err := files.Write(file, encoded[i]); err != nil {
			t.Fatal(err)
		}
	}
	write(0)
	m, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	frames := make([][]byte, flows)
	for i := range frames {
		frames[i] = udp(uint32(i), size)
	}
	done := make(chan bool)
	src := generate(func(n uint64, f *capture.Frame) error {
		select {
		case <-done:
			return io.EOF
		default:
		}
		// Flows have two packets, far enough apart that models change between
		// them, and come again when they have left the table, after 120 s.
		f.Data, f.Time = frames[n%flows], int64(n/(packets*flows))*400e9+int64(n%(packets*flows))*1e6
		return nil
	})
	seen := map[string]int{}
	check := sinkFunc(func(b []byte) (int, error) {
		for l := range strings.Lines(string(b)) {
			got := between(l, `"label":"`, `"`)
			src := between(l, `"src":"`, `"`) + ":" + between(l, `"sport":`, ",")
			if want[src+"/"+got[:1]] != got && seen["wrong"] == 0 {
				t.Errorf("neither model says so: %s", l)
				seen["wrong"]++
			}
			seen[got[:1]]++
		}
		return len(b), nil
	})
	a, err := agent.New(agent.Options{
		Sources: []capture.Source{src}, Model: m, Workers: 2, FlowsPerWorker: 1 << 12, Sink: check, Format: agent.Formats["json"],
		Lossless: true, Drain: time.Minute,
		Queue: 4, // short, so that the source's pace is that of the workers
	})
	if err != nil {
		t.Fatal(err)
	}
	var heaps []uint64
	var goroutines, files []int
	n := changes()
	go func() {
		defer close(done)
		for i := range n {
			// One change in a flow's life, which is as many packets long as there are
			// flows. A worker has tables for a few contracts at once: where more of them
			// change within one life, the oldest flows finish early.
			for next := src.n.Load() + flows; src.n.Load() < next; {
				time.Sleep(100 * time.Microsecond)
			}
			write((i + 1) % 2)
			if err := a.Reload(&config); err != nil {
				t.Error(err)
				return
			}
			if i%(n/10) == n/10-1 {
				heaps, goroutines, files = append(heaps, atRest(t, a, src)), append(goroutines, runtime.NumGoroutine()), append(files, openFiles())
			}
		}
	}()
	r, err := a.Run(t.Context())
	if err != nil {
		t.Error(err)
	}
	if r.Swaps != uint64(n) || r.QueueDropped+r.OutputDropped+r.Abandoned+r.Failed != 0 || r.Flow.Decided() != r.Flow.Flows || r.Written != r.Flow.Flows || r.Flow.Joined() < r.Flow.Flows*19/10 {
		t.Errorf("%d swaps; %s", r.Swaps, r)
	}
	if seen["a"] == 0 || seen["b"] == 0 {
		t.Errorf("verdicts by model: %v", seen)
	}
	if t.Failed() {
		return
	}
	last := len(heaps) - 1
	grown(t, heaps, 256<<10)
	if goroutines[last] > goroutines[1] || files[last] > files[1] {
		t.Errorf("something is left behind: goroutines %v, files %v", goroutines, files)
	}
	t.Logf("%d changes, verdicts by model %v, heap %d -> %d kB; %s", n, seen, slices.Min(heaps[:last/2])>>10, slices.Min(heaps[last/2:])>>10, r)
}

func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// A bundle that cannot be used changes nothing.
func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.nepco")
	config := agent.DefaultConfig()
	config.Bundle, config.Alerts = file, []string{"a0"}
	good, err := bundle.Encode(testBundle(t, 0, "a"), bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, good, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{Sources: []capture.Source{new(capture.Memory)}, Model: m, Sink: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	wrong := testBundle(t, 0, "a")
	wrong.Golden[1].Logits[0][0] ^= 1
	encode := func(b *bundle.Bundle) []byte {
		data, err := bundle.Encode(b, bundle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/2] ^= 1
	refused := uint64(0)
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"cut", good[:len(good)/2], file},
		{"one bit", flipped, file},
		{"empty", nil, file},
		{"wrong logits", encode(wrong), "golden vector 1"},
		{"other labels", encode(testBundle(t, 1, "b")), `no label "a0"`},
	} {
		if err := os.WriteFile(file, tc.data, 0o644); err != nil {
			t.Fatal(err)
		}
		refused++
		err := a.Reload(&config)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if r := a.Report(); a.Model() != m || r.Swaps != 0 || r.SwapsRefused != refused {
			t.Errorf("%s: something changed", tc.name)
		}
	}
	os.Remove(file)
	if err := a.Reload(&config); err == nil {
		t.Error("no file, no error")
	}
}

// A changed file is taken by itself, once it has settled.
func TestWatch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.nepco")
	config := agent.DefaultConfig()
	config.Bundle = file
	config.Probation.Time = 0
	write := func(b *bundle.Bundle) {
		if err := testbundle.Write(file, b, bundle.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	write(testBundle(t, 0, "a"))
	m, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{Sources: []capture.Source{new(capture.Memory)}, Model: m, Sink: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	again := make(chan os.Signal, 1)
	go a.Watch(t.Context(), &config, again, 10*time.Millisecond)
	wait := func(swaps uint64) {
		t.Helper()
		for end := time.Now().Add(time.Minute); a.Report().Swaps != swaps; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d changes, want %d", a.Report().Swaps, swaps)
			}
		}
	}
	write(testBundle(t, 0, "b"))
	wait(1)
	again <- os.Interrupt
	wait(2)
	time.Sleep(50 * time.Millisecond)
	wait(2)
}
