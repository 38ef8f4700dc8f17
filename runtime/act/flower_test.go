package act

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"

	"nepcoc/runtime/flow"
)

// tc is a kernel that keeps filters of kind flower, as far as the backend asks: those of a place, priority and protocol are a list, in which a handle is there once.
type tc struct {
	filters map[[3]uint32][]byte // parent, info, handle; what follows the numbers of the message
	gone    map[uint32]bool      // interfaces, by index
}

func (k *tc) answer(requests []netlink.Message) ([]netlink.Message, error) {
	m := requests[0]
	u := func(at int) uint32 { return binary.NativeEndian.Uint32(m.Data[at:]) }
	filter := func(key [3]uint32) netlink.Message {
		b := binary.NativeEndian.AppendUint32(make([]byte, 4), 7)
		for _, v := range []uint32{key[2], key[0], key[1]} {
			b = binary.NativeEndian.AppendUint32(b, v)
		}
		return netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWTFILTER, Sequence: m.Header.Sequence, PID: m.Header.PID}, Data: append(b, k.filters[key]...)}
	}
	if index := u(4); k.gone[index] {
		return nltest.Error(int(unix.ENODEV), requests)
	}
	switch m.Header.Type {
	case unix.RTM_GETLINK:
		return []netlink.Message{{Header: netlink.Header{Type: unix.RTM_NEWLINK, Sequence: m.Header.Sequence, PID: m.Header.PID}, Data: m.Data}}, nil
	case unix.RTM_NEWTFILTER:
		key := [3]uint32{u(12), u(16), u(8)}
		if key[2] == 0 {
			return nil, errors.New("a filter without a number")
		}
		if k.filters[key] != nil {
			return nltest.Error(int(unix.EEXIST), requests)
		}
		k.filters[key] = slices.Clone(m.Data[20:])
	case unix.RTM_DELTFILTER:
		n := len(k.filters)
		maps.DeleteFunc(k.filters, func(key [3]uint32, _ []byte) bool {
			return key[0] == u(12) && key[1] == u(16) && (u(8) == 0 || key[2] == u(8))
		})
		if len(k.filters) == n {
			return nltest.Error(int(unix.ENOENT), requests)
		}
	case unix.RTM_GETTFILTER:
		var list []netlink.Message
		for key := range k.filters {
			if key[0] == u(12) && (m.Header.Flags&netlink.Dump == netlink.Dump || key[1] == u(16) && key[2] == u(8)) {
				list = append(list, filter(key))
			}
		}
		if m.Header.Flags&netlink.Dump == netlink.Dump {
			return nltest.Multipart(append(list, netlink.Message{Header: netlink.Header{Sequence: m.Header.Sequence, PID: m.Header.PID}}))
		}
		if len(list) == 0 {
			return nltest.Error(int(unix.ENOENT), requests)
		}
		return list, nil
	}
	return nltest.Error(0, requests)
}

func openTC(t *testing.T) (*tc, *flower) {
	k := &tc{filters: map[[3]uint32][]byte{}, gone: map[uint32]bool{}}
	f := newFlower(nltest.Dial(k.answer))
	t.Cleanup(func() { f.conn.Close() })
	f.places, f.index, f.pref, f.offload = []Place{{"p0", false}}, map[string]int{"p0": 7, "copies": 8}, 100, "off"
	return k, f
}

// strangers puts filters of somebody else into our list.
func (k *tc) strangers(handles ...uint32) {
	for _, h := range handles {
		x := filter{pref: 100, protocol: unix.ETH_P_ALL}
		k.filters[[3]uint32{parentIngress, x.info(), h}] = []byte{11, 0, tcaKind, 0, 'f', 'l', 'o', 'w', 'e', 'r', 0, 0}
	}
}

func nthRule(n int) Rule {
	return Rule{ID: uint32(n), Flow: Flow{Key: flow.Key{Proto: 17, SrcPort: uint16(n), DstPort: 50000}}, Effect: Effect{Kind: Drop}, FlowID: uint64(n), Until: 4e9}
}

// Filters of others in the list that ours are in are never in our way, and stay, whatever becomes of our rules.
func TestFiltersOfOthers(t *testing.T) {
	k, f := openTC(t)
	k.strangers(1, 2, 3, 4, 5, 6)
	rules := []Rule{nthRule(1), nthRule(2), nthRule(MaxID)}
	for i, err := range f.Add(rules) {
		if err != nil {
			t.Errorf("rule %d: %v", rules[i].ID, err)
		}
	}
	if len(k.filters) != 6+2*3 {
		t.Errorf("%d filters", len(k.filters))
	}
	if lost, err := f.Check(rules); err != nil || lost != nil {
		t.Errorf("lost %v, %v", lost, err)
	}
	// Somebody takes a direction of one away, and puts a filter of his in the place of another's.
	list := f.filters(&rules[0], f.places)
	delete(k.filters, [3]uint32{parentIngress, list[1].info(), list[1].handle})
	k.strangers(handles + 2*2)
	if lost, err := f.Check(rules); err != nil || !slices.Equal(lost, []int{0, 1}) || len(k.filters) != 6+1+2 {
		t.Errorf("lost %v, %v, %d filters", lost, err, len(k.filters))
	}
	if lost, err := f.Check(rules[:2]); !errors.Is(err, ErrGone) {
		t.Errorf("none is left: lost %v, %v", lost, err)
	}
	delete(k.filters, [3]uint32{parentIngress, list[1].info(), handles + 2*2})
	if err := f.Delete(rules); err != nil || len(k.filters) != 6 {
		t.Errorf("%v, %d filters", err, len(k.filters))
	}
	// One that has just our number.
	k.strangers(handles+2*9, handles+2*10+1)
	for i, err := range f.Add([]Rule{nthRule(9), nthRule(10)}) {
		if !errors.Is(err, unix.EEXIST) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if len(k.filters) != 8 {
		t.Errorf("%d filters: one of somebody else's was taken away, or one of ours left", len(k.filters))
	}
	f.Add([]Rule{nthRule(1)})
	if err := f.Undo(); err != nil || len(k.filters) != 8 {
		t.Errorf("%v, %d filters", err, len(k.filters))
	}
}

// An interface that is gone is noticed though no rule is in force, and so is one that copies go to.
func TestInterfaceGone(t *testing.T) {
	for name, index := range map[string]uint32{"p0": 7, "copies": 8} {
		k, f := openTC(t)
		if _, err := f.Check(nil); err != nil {
			t.Fatal(err)
		}
		k.gone[index] = true
		if _, err := f.Check(nil); !errors.Is(err, ErrGone) || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A rule's filters stand in the lists of the tags that its flow's frames may have, a priority tag among them; all of them are one rule to who lists, checks or takes it away.
func TestListsOfTags(t *testing.T) {
	for _, c := range []struct {
		name   string
		tagged bool
		vlan   uint16
		v6     bool
		want   []uint16 // protocols
	}{
		{"any tag", false, 0, false, []uint16{unix.ETH_P_ALL}},
		{"no VLAN", true, 0, false, []uint16{unix.ETH_P_IP, unix.ETH_P_8021Q}},
		{"no VLAN, IPv6", true, 0, true, []uint16{unix.ETH_P_IPV6, unix.ETH_P_8021Q}},
		{"a VLAN", true, 5, false, []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD}},
	} {
		k, f := openTC(t)
		r := nthRule(1)
		r.Flow.Tagged, r.Flow.Key.VLAN[0], r.Flow.Key.V6 = c.tagged, c.vlan, c.v6
		r.Flow.Key.Dst[0] = 9
		r.Flow.Key, _ = r.Flow.Key.Canonical()
		if errs := f.Add([]Rule{r}); errs[0] != nil {
			t.Fatal(c.name, errs[0])
		}
		count := map[uint16]int{}
		for key := range k.filters {
			count[binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, uint16(key[1])))]++
		}
		for _, p := range c.want {
			if count[p] != 2 { // both ways
				t.Errorf("%s: %d filters of protocol %04x", c.name, count[p], p)
			}
		}
		if len(k.filters) != 2*len(c.want) {
			t.Errorf("%s: %d filters", c.name, len(k.filters))
		}
		if found, err := f.list(f.places); err != nil || len(found) != 1 || found[0].Flow != r.Flow {
			t.Errorf("%s: lists %+v, %v; want %+v", c.name, found, err, r.Flow)
		}
		if lost, err := f.Check([]Rule{r}); err != nil || lost != nil {
			t.Errorf("%s: lost %v, %v", c.name, lost, err)
		}
		// One of each list that somebody takes away is noticed.
		for _, x := range f.filters(&r, f.places) {
			id := [3]uint32{parentIngress, x.info(), x.handle}
			was := k.filters[id]
			delete(k.filters, id)
			if lost, err := f.lost([]Rule{r}); err != nil || len(lost) != 1 {
				t.Errorf("%s: one of %04x is gone: %v, %v", c.name, x.protocol, lost, err)
			}
			k.filters[id] = was
		}
		if err := f.Delete([]Rule{r}); err != nil || len(k.filters) != 0 {
			t.Errorf("%s: %v, %d filters are left", c.name, err, len(k.filters))
		}
		f.Add([]Rule{r})
		if err := f.Undo(); err != nil || len(k.filters) != 0 {
			t.Errorf("%s: %v, %d filters are left", c.name, err, len(k.filters))
		}
	}
}
