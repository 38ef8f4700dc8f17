package dataset_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler/dataset"
	"nepcoc/runtime/traffic"
)

// manyFlows writes a capture of n flows, a datagram of 1000 bytes each.
func manyFlows(t *testing.T, n int) string { return datagrams(t, n, 1000) }

// datagrams writes a capture of n flows, a datagram each, whose contents follow from the flow's number.
func datagrams(t *testing.T, n, payload int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "many.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	w.Write([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0}) // raw IP
	size := 20 + 8 + payload
	p := make([]byte, 16+size)
	le, be := binary.LittleEndian, binary.BigEndian
	le.PutUint32(p[8:], uint32(size))
	le.PutUint32(p[12:], uint32(size))
	ip := p[16:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	be.PutUint16(ip[2:], uint16(size))
	be.PutUint32(ip[16:], 0x0a000001)
	be.PutUint16(ip[20:], 4000)
	be.PutUint16(ip[22:], 5000)
	be.PutUint16(ip[24:], uint16(8+payload))
	for i := range n {
		le.PutUint32(p, 1e9+uint32(i/1000))
		le.PutUint32(p[4:], uint32(i%1000*1000))
		be.PutUint32(ip[12:], 0x0b000000+uint32(i))
		for k := range payload {
			ip[28+k] = byteOf(i, k)
		}
		w.Write(p)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func byteOf(flow, k int) byte { return byte(flow>>(8*(k&3)) + 7*k) }

// longContract has a thousand bytes of the client.
func longContract(t *testing.T) traffic.Contract {
	t.Helper()
	c, err := traffic.Load("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	c.ClientBytes, c.Length = 1000, 1200
	return c
}

// heap is what the program holds, besides files that are mapped.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A set of many flows holds their tokens in a file: in memory are some hundred bytes of each, whatever the contract's length.
func TestManyFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("writes and reads a capture of 50 MB")
	}
	const n = 50_000
	c := longContract(t)
	path := manyFlows(t, n)
	before := heap()
	set, err := dataset.Read([]string{path}, dataset.Options{Source: dataset.Source{Contract: c}, Unlabelled: true})
	if err != nil {
		t.Fatal(err)
	}
	held, tokens := heap()-before, 0
	for i := range set.Flows {
		tokens += 4 * len(set.Flows[i].Tokens)
	}
	if limit := 64<<20 + 300*n; held > limit || tokens < limit {
		t.Errorf("%d MiB held, want %d at most; the tokens take %d", held>>20, limit>>20, tokens>>20)
	}
	if len(set.Flows) != n {
		t.Fatalf("%d flows", len(set.Flows))
	}
	for _, i := range []int{0, 1000, 20_000, 40_000, n - 1} { // in memory, and in the file
		got := set.Flows[i].Tokens[4:] // behind CLS, transport, side and length
		var want []int32
		for k := range 1000 {
			want = append(want, int32(c.ValueOffset)+int32(byteOf(i, k)))
		}
		if !slices.Equal(got[:1000], want) {
			t.Errorf("flow %d: tokens %v, want %v", i, got[:8], want[:8])
		}
	}
	before = heap()
	if err := set.Write(io.Discard, dataset.Meta{}); err != nil {
		t.Fatal(err)
	}
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("writing holds %d MiB more", grown>>20)
	}
	runtime.KeepAlive(set)
}

// A disk that has no room for the tokens is an error that says so, not the end of the program.
func TestNoRoom(t *testing.T) {
	if testing.Short() {
		t.Skip("writes and reads a capture of 20 MB")
	}
	c := longContract(t)
	path := manyFlows(t, 20_000)
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	_, err := dataset.Read([]string{path}, dataset.Options{Source: dataset.Source{Contract: c}, Unlabelled: true})
	if err == nil || !strings.Contains(err.Error(), "tokens don't fit memory") || !strings.Contains(err.Error(), "none") {
		t.Errorf("%v", err)
	}
}
