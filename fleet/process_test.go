package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// role is what a process of a test's fleet does.
type role struct {
	Kind  string        `json:"kind"` // server, hub or sink
	Dir   string        `json:"dir"`  // of the fleet
	Ports []int         `json:"ports"`
	URLs  string        `json:"urls"`
	Index int           `json:"index"` // of a server
	Size  int64         `json:"size"`  // of a sink's files
	Sync  time.Duration `json:"sync"`  // how often a sink keeps what it wrote; 0: as usual
}

const roleVariable = "NEPCO_TEST_ROLE"

// TestProcess is a server, hub or sink in a process of its own: to be killed, and told from cards in what it takes. It ends with whoever began it.
func TestProcess(t *testing.T) {
	text := os.Getenv(roleVariable)
	if text == "" {
		t.Skip("is run by other tests")
	}
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	a, err := OpenAccess(filepath.Join(r.Dir, "fleet"))
	if err != nil {
		t.Fatal(err)
	}
	f := &testFleet{TB: t, dir: r.Dir, access: a, ports: r.Ports, urls: r.URLs}
	switch r.Kind {
	case "server":
		s := f.serve(r.Index, r.Ports)
		defer s.WaitForShutdown()
		defer s.Shutdown()
	case "hub":
		f.hub("process")
	case "sink":
		if r.Sync > 0 {
			sinkSync = r.Sync
		}
		s, err := OpenSink(f.client("sink"), SinkOptions{Group: "g", Dir: filepath.Join(r.Dir, "sink", "g"), Size: r.Size})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := s.Run(t.Context(), func(SinkCounts) {}); err != nil {
				t.Error(err)
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin)
}

// process is one that a test began.
type process struct {
	cmd *exec.Cmd
	out output
	end io.Closer
}

// output is what a process wrote until now.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// process begins this program again in a role of the fleet.
func (f *testFleet) process(r role) *process {
	f.Helper()
	r.Dir, r.Ports, r.URLs = f.dir, f.ports, f.urls
	text, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^TestProcess$", "-test.timeout=0")}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if p.end, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if p.stop(); f.Failed() && p.out.String() != "" {
			f.Logf("%s %d: %s", r.Kind, r.Index, p.out.String())
		}
	})
	return p
}

// stop ends a process as it likes, kill as a crash does.
func (p *process) stop() { p.end.Close(); p.cmd.Wait() }
func (p *process) kill() { p.cmd.Process.Kill(); p.cmd.Wait() }

// usage is what processes took: time of cores in seconds, and memory in bytes, now and at most (resident sets, together).
type usage struct{ cpu, memory, most float64 }

// used is what the processes took until now, those that have ended left out.
func used(t testing.TB, processes ...*process) (u usage) {
	t.Helper()
	for _, p := range processes {
		dir := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
		stat, err := os.ReadFile(dir + "stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		for _, field := range fields[11:13] { // utime, stime: hundredths of seconds
			n, _ := strconv.ParseFloat(field, 64)
			u.cpu += n / 100
		}
		status, err := os.ReadFile(dir + "status")
		if err != nil {
			continue
		}
		u.memory += 1024 * number(string(status), "VmRSS:")
		u.most += 1024 * number(string(status), "VmHWM:")
	}
	return u
}

// number is what stands behind a name in a file of /proc.
func number(text, name string) float64 {
	fields := strings.Fields(text)
	if i := slices.Index(fields, name); i >= 0 && i+1 < len(fields) {
		n, _ := strconv.ParseFloat(fields[i+1], 64)
		return n
	}
	return 0
}

// ownCPU is this process's time of cores in seconds.
func ownCPU() float64 {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// load is how many processes of this machine wanted a core in the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.Fields(string(text) + " ?")[0]
}

// apart is a fleet whose servers, and whose hub, are processes of their own.
type apart struct {
	*testFleet
	servers []*process
	hub     *process
	client  *Client
}

// newApart starts so many servers and a hub.
func newApart(t testing.TB, servers int) *apart {
	t.Helper()
	f := &apart{testFleet: newFleetFolder(t, servers)}
	f.begin()
	f.client = f.testFleet.client("test")
	f.eventually(2*time.Minute, "the hub", func() error {
		if err := f.client.open(t.Context()); err != nil {
			return err
		}
		return f.client.Ready()
	})
	return f
}

// begin starts the servers and the hub, for the first time or again.
func (f *apart) begin() {
	f.servers = nil
	for i := range len(f.ports) / 2 {
		f.servers = append(f.servers, f.process(role{Kind: "server", Index: i}))
	}
	f.hub = f.process(role{Kind: "hub"})
}

// side are the processes of the hub's side.
func (f *apart) side() []*process { return append(slices.Clip(f.servers), f.hub) }

// many enrols cards of group g, and starts them.
func (f *testFleet) many(c *Client, n int, runner func(i int) Runner, change func(i int, o *CardOptions)) {
	f.Helper()
	var wait sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range n {
		slots <- struct{}{}
		wait.Go(func() {
			f.card(c, "g", fmt.Sprintf("card%04d", i), runner(i), func(o *CardOptions) { change(i, o) })
			<-slots
		})
	}
	wait.Wait()
}
