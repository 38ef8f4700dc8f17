package act

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// flower puts rules into tc as filters of kind flower: one for each direction at each place, which network cards that can may do in
// hardware. Filters know no time, so the manager deletes them; a cookie at each filter's action says that it is ours, and until when.
//
// Messages are ours, on the same sockets as nftables': vishvananda/netlink, up to its latest release (1.3.1), writes the flags
// skip_sw and skip_hw in the wrong byte order, reads them the wrong way round, and knows nothing of in_hw and cookies.
type flower struct {
	conn    *netlink.Conn
	links   *links // on the same socket
	places  []Place
	index   map[string]int
	pref    uint16
	offload string
	made    []Place           // whose queueing discipline we made
	state   map[uint32]string // of rules in force, as Hardware says it
	late    late
}

// Numbers of linux/pkt_cls.h, linux/pkt_sched.h and linux/tc_act.
const (
	tcaKind, tcaOptions = 1, 2

	flowerAct, flowerEthType, flowerProto                  = 3, 8, 9
	flowerSrc4, flowerSrc4Mask                             = 10, 11
	flowerDst4, flowerDst4Mask                             = 12, 13
	flowerSrc6, flowerSrc6Mask, flowerDst6, flowerDst6Mask = 14, 15, 16, 17
	flowerTCPSrc, flowerTCPDst                             = 18, 19
	flowerUDPSrc, flowerUDPDst                             = 20, 21
	flowerFlags, flowerVLAN, flowerVLANEthType             = 22, 23, 25

	skipHW, skipSW, inHW = 1 << 0, 1 << 1, 1 << 2

	actKind, actOptions, actCookie, actFlags = 1, 2, 6, 7
	noPerCPU                                 = 1 << 0
	gactParms, skbeditParms                  = 2, 2
	skbeditMark                              = 5
	mirredParms, egressMirror                = 2, 2
	policeParms, policeRate                  = 1, 2
	policeResult                             = 5

	actContinue, actDrop = ^uint32(0), 2 // the next filter; the end

	handleClsact, parentClsact  = 0xffff0000, 0xfffffff1
	parentIngress, parentEgress = 0xfffffff2, 0xfffffff3
)

// cookieMagic begins our cookies of 16 bytes: the flow's number (8 bytes with the kind in the first), and the end in seconds since 1970.
const cookieMagic = "nepc"

func cookie(r *Rule) []byte {
	b := append([]byte(nil), cookieMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Effect.Kind)<<56|r.FlowID&(1<<56-1))
	return binary.BigEndian.AppendUint32(b, uint32(r.Until))
}

// readCookie reads one of ours.
func readCookie(b []byte) (kind Kind, flowID uint64, until int64, ok bool) {
	if len(b) != 16 || string(b[:4]) != cookieMagic || Kind(b[4]) >= NumKinds {
		return 0, 0, 0, false
	}
	return Kind(b[4]), binary.BigEndian.Uint64(b[4:]) & (1<<56 - 1), int64(binary.BigEndian.Uint32(b[12:])), true
}

func dialFlower() (*flower, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("flower: %w", err)
	}
	conn.SetOption(netlink.ExtendedAcknowledge, true) // says why, where the kernel can
	conn.SetReadBuffer(1 << 20)
	return newFlower(conn), nil
}

func newFlower(conn *netlink.Conn) *flower {
	f := &flower{conn: conn, state: map[uint32]string{}}
	f.links = &links{conn, &f.late}
	return f
}

// openFlower prepares the places. Filters of ours that are there are deleted. hardware: only if a filter can be put into hardware
// at each place where packets come in.
func openFlower(c *Config, captured string, hardware bool) (*flower, error) {
	f, err := dialFlower()
	if err != nil {
		return nil, err
	}
	f.places, f.pref, f.offload = c.Places(captured), uint16(c.Pref), c.Offload
	if f.index, err = indices(c, captured); err == nil {
		err = f.prepare(hardware)
	}
	if err != nil {
		f.unmake()
		f.Close()
		return nil, fmt.Errorf("flower: %w", hint(err))
	}
	return f, nil
}

func (f *flower) prepare(hardware bool) error {
	if err := f.Undo(); err != nil {
		return err
	}
	for _, p := range f.places {
		switch err := f.qdisc(p, unix.RTM_NEWQDISC); {
		case err == nil:
			f.made = append(f.made, p)
		case errors.Is(err, unix.EEXIST): // somebody's; one without egress is found out by the probe
		case errors.Is(err, unix.ENOENT):
			return fmt.Errorf("%s: this kernel has no clsact: %w", p, err)
		default:
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	// No packet has these ends.
	probe := Rule{ID: 0, Flow: Flow{Key: flow.Key{Proto: capture.ProtoUDP}}, Effect: Effect{Kind: Drop}}
	old := f.offload
	if hardware {
		f.offload = "required"
	}
	defer func() { f.offload = old }()
	for _, p := range f.places {
		if hardware && p.Egress {
			continue
		}
		for _, x := range f.filters(&probe, []Place{p}) {
			if err := f.put(&x); err != nil {
				if errors.Is(err, unix.ENOENT) {
					err = fmt.Errorf("this kernel has no tc flower: %w", err)
				}
				return fmt.Errorf("%s: %w", p, err)
			}
			if err := f.take(&x); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
	}
	return nil
}

// qdisc makes or deletes the queueing discipline of a place's interface, which only holds filters.
func (f *flower) qdisc(p Place, what uint16) error {
	flags := netlink.HeaderFlags(0)
	if what == unix.RTM_NEWQDISC {
		flags = netlink.Create | netlink.Excl
	}
	_, err := f.execute(what, flags, f.index[p.Interface], handleClsact, parentClsact, 0, func(a *netlink.AttributeEncoder) { a.String(tcaKind, "clsact") })
	return err
}

// unmake deletes the queueing disciplines that we made, unless others have put filters there.
func (f *flower) unmake() {
	for _, p := range f.made {
		empty := true
		for _, q := range []Place{{p.Interface, false}, {p.Interface, true}} {
			list, err := f.dump(q)
			empty = empty && err == nil && len(list) == 0
		}
		if empty {
			f.qdisc(p, unix.RTM_DELQDISC)
		}
	}
	f.made = nil
}

// execute sends one message of tc and takes the answers.
func (f *flower) execute(what uint16, flags netlink.HeaderFlags, index int, handle, parent, info uint32, attributes func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	b := make([]byte, 4, 20)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, handle)
	b = binary.NativeEndian.AppendUint32(b, parent)
	b = binary.NativeEndian.AppendUint32(b, info)
	if attributes != nil {
		a := netlink.NewAttributeEncoder()
		attributes(a)
		more, err := a.Encode()
		if err != nil {
			return nil, err
		}
		b = append(b, more...)
	}
	if what != unix.RTM_GETTFILTER {
		flags |= netlink.Acknowledge
	}
	f.late.settle(f.conn)
	got, err := f.conn.Execute(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(what), Flags: netlink.Request | flags}, Data: b})
	f.late.note(err)
	return got, err
}

// patient gives the messages that follow their time.
func (f *flower) patient() { f.conn.SetDeadline(time.Now().Add(Patience)) }

// filter is one filter of tc's.
type filter struct {
	place    Place
	handle   uint32
	pref     uint16
	protocol uint16 // of the filter's list: all, or one
	key      flow.Key
	tagged   bool
	rule     *Rule
	flags    uint32 // as read
	cookie   []byte
}

func (f *flower) parent(p Place) uint32 {
	if p.Egress {
		return parentEgress
	}
	return parentIngress
}

func (x *filter) info() uint32 {
	return uint32(x.pref)<<16 | uint32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, x.protocol)))
}

// handles are from here on: the kernel numbers filters that come without a number from 1 on, and those of others may stand in the same list.
const handles = 1 << 31

// filters are what a rule is made of. Filters of one priority are for one protocol: the first of ours is for filters that look behind all tags, then
// one is for each of untagged IPv4 and IPv6, 802.1Q and 802.1ad, where VLANs tell flows apart. A priority tag, 802.1Q with VLAN id 0, tells none apart: a flow without
// VLAN has filters in the list of 802.1Q, too. (802.1ad with id 0, which nftables meets, would take a third of all filters for frames that hardly anybody sends.)
func (f *flower) filters(r *Rule, places []Place) (list []filter) {
	k := r.Flow.Key
	both := []flow.Key{k}
	if back := k.Reverse(); back != k {
		both = append(both, back)
	}
	type of struct {
		pref     uint16
		protocol uint16
	}
	kinds := []of{{0, unix.ETH_P_ALL}}
	switch {
	case r.Flow.Tagged && k.VLAN[0] != 0:
		kinds = []of{{3, unix.ETH_P_8021Q}, {4, unix.ETH_P_8021AD}}
	case r.Flow.Tagged && k.V6:
		kinds = []of{{2, unix.ETH_P_IPV6}, {3, unix.ETH_P_8021Q}}
	case r.Flow.Tagged:
		kinds = []of{{1, unix.ETH_P_IP}, {3, unix.ETH_P_8021Q}}
	}
	for _, p := range places {
		for _, o := range kinds {
			for d, key := range both {
				list = append(list, filter{place: p, handle: handles + 2*r.ID + uint32(d), pref: f.pref + o.pref, protocol: o.protocol, key: key, tagged: r.Flow.Tagged, rule: r})
			}
		}
	}
	return list
}

func be16(a *netlink.AttributeEncoder, typ, v uint16) {
	a.Bytes(typ, binary.BigEndian.AppendUint16(nil, v))
}

// put adds a filter.
func (f *flower) put(x *filter) error {
	_, err := f.execute(unix.RTM_NEWTFILTER, netlink.Create|netlink.Excl, f.index[x.place.Interface], x.handle, f.parent(x.place), x.info(), func(a *netlink.AttributeEncoder) {
		a.String(tcaKind, "flower")
		a.Nested(tcaOptions, func(a *netlink.AttributeEncoder) error {
			ethertype, size := uint16(unix.ETH_P_IP), 4
			src, dst := [2]uint16{flowerSrc4, flowerSrc4Mask}, [2]uint16{flowerDst4, flowerDst4Mask}
			if x.key.V6 {
				ethertype, size = unix.ETH_P_IPV6, 16
				src, dst = [2]uint16{flowerSrc6, flowerSrc6Mask}, [2]uint16{flowerDst6, flowerDst6Mask}
			}
			if x.protocol == unix.ETH_P_8021Q || x.protocol == unix.ETH_P_8021AD {
				be16(a, flowerEthType, x.protocol)
				a.Uint16(flowerVLAN, x.key.VLAN[0])
				be16(a, flowerVLANEthType, ethertype)
			} else {
				be16(a, flowerEthType, ethertype)
			}
			a.Uint8(flowerProto, x.key.Proto)
			ones := slices.Repeat([]byte{0xff}, size)
			a.Bytes(src[0], x.key.Src[:size])
			a.Bytes(src[1], ones)
			a.Bytes(dst[0], x.key.Dst[:size])
			a.Bytes(dst[1], ones)
			sport, dport := uint16(flowerTCPSrc), uint16(flowerTCPDst)
			if x.key.Proto == capture.ProtoUDP {
				sport, dport = flowerUDPSrc, flowerUDPDst
			}
			be16(a, sport, x.key.SrcPort)
			be16(a, dport, x.key.DstPort)
			a.Uint32(flowerFlags, map[string]uint32{"required": skipSW, "off": skipHW}[f.offload])
			a.Nested(flowerAct, func(a *netlink.AttributeEncoder) error {
				a.Nested(1, func(a *netlink.AttributeEncoder) error { f.action(a, x.rule); return nil })
				return nil
			})
			return nil
		})
	})
	return err
}

// general are the numbers that all actions begin with: index, capabilities, what follows, two counts.
func general(follows uint32) []byte {
	b := make([]byte, 8, 56)
	b = binary.NativeEndian.AppendUint32(b, follows)
	return append(b, make([]byte, 8)...)
}

// action writes a rule's action and its cookie. Behind all but a drop the filters of others have their say, too.
func (f *flower) action(a *netlink.AttributeEncoder, r *Rule) {
	e := &r.Effect
	name := "gact"
	switch e.Kind {
	case Mark:
		name = "skbedit"
	case Mirror:
		name = "mirred"
	case RateLimit:
		name = "police"
	}
	a.String(actKind, name)
	a.Bytes(actCookie, cookie(r))
	// Counters of its own for each CPU took half of the time that making a rule did. Kernels before 5.5 do not read this.
	flags := binary.NativeEndian.AppendUint32(nil, noPerCPU)
	a.Bytes(actFlags, binary.NativeEndian.AppendUint32(flags, noPerCPU)) // the value, and which bits of it are said
	a.Nested(actOptions, func(a *netlink.AttributeEncoder) error {
		switch e.Kind {
		case Mark:
			a.Bytes(skbeditParms, general(actContinue))
			a.Uint32(skbeditMark, e.Mark)
		case Mirror:
			b := binary.NativeEndian.AppendUint32(general(actContinue), egressMirror)
			a.Bytes(mirredParms, binary.NativeEndian.AppendUint32(b, uint32(f.index[e.To])))
		case RateLimit:
			police(a, e.Rate)
		default:
			a.Bytes(gactParms, general(actDrop))
		}
		return nil
	})
}

// tick is the unit of tc's times.
const tick = 64 * time.Nanosecond

// police writes a policer: what exceeds the rate is dropped. The kernel wants a table of how long packets of 256 sizes take at the
// rate, though it computes with the rate itself.
func police(a *netlink.AttributeEncoder, rate uint64) {
	ticks := func(bytes uint64) uint32 {
		return uint32(min(float64(bytes)/float64(rate)*float64(time.Second/tick), 1<<32-1))
	}
	const cell = 8 // 256 bytes, so that 256 of them are the longest packet
	b := make([]byte, 4, 56)
	b = binary.NativeEndian.AppendUint32(b, actDrop)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, ticks(uint64(burst(rate))))
	b = binary.NativeEndian.AppendUint32(b, 0) // no packet is too long
	spec := append([]byte{cell, 1, 0, 0, 0xff, 0xff, 0, 0}, 0, 0, 0, 0)
	binary.NativeEndian.PutUint32(spec[8:], uint32(rate))
	b = append(append(b, spec...), make([]byte, 12+12)...)
	a.Bytes(policeParms, b)
	var table []byte
	for i := range 256 {
		table = binary.NativeEndian.AppendUint32(table, ticks(uint64(i+1)<<cell))
	}
	a.Bytes(policeRate, table)
	a.Uint32(policeResult, actContinue)
}

// take deletes a filter; one that is gone is no error.
func (f *flower) take(x *filter) error {
	_, err := f.execute(unix.RTM_DELTFILTER, 0, f.index[x.place.Interface], x.handle, f.parent(x.place), x.info(), func(a *netlink.AttributeEncoder) { a.String(tcaKind, "flower") })
	if absent(err) {
		return nil
	}
	return err
}

// absent says whether an error is that there is no such filter, list of filters, or interface.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

// Name implements Backend.
func (f *flower) Name() string { return "flower" }

// Expires implements Backend.
func (f *flower) Expires() bool { return false }

// Add implements Backend. Each rule has the kernel's patience; once that is over, the rest of them is not tried.
func (f *flower) Add(rules []Rule) []error {
	errs := make([]error, len(rules))
	for i := range rules {
		f.patient()
		if errs[i] = f.add(&rules[i]); errors.Is(errs[i], os.ErrDeadlineExceeded) {
			for k := i + 1; k < len(rules); k++ {
				errs[k] = errs[i]
			}
			break
		}
	}
	return errs
}

func (f *flower) add(r *Rule) error {
	list := f.filters(r, f.places)
	hard := 0
	for k := range list {
		if err := f.put(&list[k]); err != nil {
			err = fmt.Errorf("%s: %w", list[k].place, hint(err))
			f.patient()
			n := k
			if errors.Is(err, os.ErrDeadlineExceeded) && f.ours(&list[k]) { // one that nobody has answered for may be there
				n++
			}
			for _, x := range list[:n] {
				if undo := f.take(&x); undo != nil {
					err = fmt.Errorf("%w; and a part of it can't be taken away again: %w", err, undo)
				}
			}
			return err
		}
		if f.offload != "off" {
			if flags, err := f.flags(&list[k]); err == nil && flags&inHW != 0 {
				hard++
			}
		}
	}
	f.state[r.ID] = map[bool]string{hard == 0: "no", hard > 0 && hard < len(list): "partly", hard == len(list): "yes"}[true]
	return nil
}

// flags reads a filter's flags back from the kernel.
func (f *flower) flags(x *filter) (uint32, error) {
	y, err := f.read(x)
	return y.flags, err
}

// read reads a filter back.
func (f *flower) read(x *filter) (filter, error) {
	got, err := f.execute(unix.RTM_GETTFILTER, 0, f.index[x.place.Interface], x.handle, f.parent(x.place), x.info(), func(a *netlink.AttributeEncoder) { a.String(tcaKind, "flower") })
	if err != nil {
		return filter{}, err
	}
	for _, m := range got {
		if y, ok := readFilter(m.Data); ok {
			return y, nil
		}
	}
	return filter{}, unix.ENOENT
}

// ours says whether the filter that is there is the one that was asked for: another one of its number is somebody else's.
func (f *flower) ours(x *filter) bool {
	y, err := f.read(x)
	return err == nil && bytes.Equal(y.cookie, cookie(x.rule))
}

// Hardware implements Backend.
func (f *flower) Hardware(r Rule) string { return f.state[r.ID] }

// Delete implements Backend.
func (f *flower) Delete(rules []Rule) error {
	var errs []error
	for i := range rules {
		f.patient()
		delete(f.state, rules[i].ID)
		for _, x := range f.filters(&rules[i], f.places) {
			if err := f.take(&x); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", x.place, err))
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return errors.Join(errs...)
				}
			}
		}
	}
	return errors.Join(errs...)
}

// Check implements Backend: the interfaces are the same, those of copies too, and some of the filters are there. Where none of the rules is whole somebody has
// flushed them, and where that is under way the rest of them is gone at a second look.
func (f *flower) Check(some []Rule) (lost []int, err error) {
	f.patient()
	if err := f.links.all(f.index); err != nil {
		return nil, err
	}
	if lost, err = f.lost(some); err == nil && len(lost) > 0 {
		lost, err = f.lost(some)
	}
	if err != nil {
		return nil, err
	}
	if len(lost) > 0 && len(lost) == len(some) {
		return nil, ErrGone
	}
	for _, i := range lost {
		for _, x := range f.filters(&some[i], f.places) {
			if f.ours(&x) {
				if err := f.take(&x); err != nil {
					return nil, fmt.Errorf("%s: %w", x.place, err)
				}
			}
		}
		delete(f.state, some[i].ID)
	}
	return lost, nil
}

// lost are the rules of which a filter isn't there, or is another.
func (f *flower) lost(some []Rule) (lost []int, err error) {
	for i := range some {
		for _, x := range f.filters(&some[i], f.places) {
			y, err := f.read(&x)
			if err != nil && !absent(err) {
				return nil, err
			}
			if err != nil || !bytes.Equal(y.cookie, cookie(x.rule)) {
				lost = append(lost, i)
				break
			}
		}
	}
	return lost, nil
}

// Undo implements Backend.
func (f *flower) Undo() error {
	var errs []error
	for _, p := range f.places {
		errs = append(errs, f.clear(p, f.index[p.Interface]))
	}
	clear(f.state)
	return errors.Join(errs...)
}

// clear deletes our filters at a place, and looks whether they are gone.
func (f *flower) clear(p Place, index int) error {
	if f.index == nil {
		f.index = map[string]int{}
	}
	f.index[p.Interface] = index
	list, err := f.dump(p)
	if err != nil {
		return err
	}
	// Where a list of filters holds ours only, it goes as a whole: 10,000 rules are taken away at once.
	type tp struct{ pref, protocol uint16 }
	others := map[tp]bool{}
	ours := 0
	for i := range list {
		if _, _, _, ok := readCookie(list[i].cookie); ok {
			ours++
		} else {
			others[tp{list[i].pref, list[i].protocol}] = true
		}
	}
	if ours == 0 {
		return nil
	}
	gone := map[tp]bool{}
	for i := range list {
		x := list[i]
		t := tp{x.pref, x.protocol}
		if _, _, _, ok := readCookie(x.cookie); !ok || gone[t] {
			continue
		}
		if !others[t] {
			gone[t], x.handle = true, 0
		}
		f.patient()
		if err := f.take(&x); err != nil {
			return fmt.Errorf("%s: %w", p, hint(err))
		}
	}
	if list, err = f.dump(p); err != nil {
		return err
	}
	for i := range list {
		if _, _, _, ok := readCookie(list[i].cookie); ok {
			return fmt.Errorf("%s: filters of ours are still there", p)
		}
	}
	return nil
}

// Close implements Backend. Queueing disciplines that we made go, too.
func (f *flower) Close() error {
	f.patient()
	f.unmake()
	return f.conn.Close()
}

// dump reads all filters of kind flower at a place; those without a queueing discipline have none.
func (f *flower) dump(p Place) ([]filter, error) {
	f.conn.SetDeadline(time.Now().Add(listPatience))
	defer f.patient()
	got, err := f.execute(unix.RTM_GETTFILTER, netlink.Dump, f.index[p.Interface], 0, f.parent(p), 0, nil)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	var list []filter
	for _, m := range got {
		if x, ok := readFilter(m.Data); ok {
			x.place = p
			list = append(list, x)
		}
	}
	return list, nil
}

// readFilter reads a message about a filter of any kind; false if it has no handle, as lists of filters have none.
func readFilter(b []byte) (x filter, ok bool) {
	if len(b) < 20 {
		return x, false
	}
	x.handle = binary.NativeEndian.Uint32(b[8:])
	info := binary.NativeEndian.Uint32(b[16:])
	x.pref, x.protocol = uint16(info>>16), binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, uint16(info)))
	if x.handle == 0 {
		return x, false
	}
	top, err := netlink.NewAttributeDecoder(b[20:])
	if err != nil {
		return x, false
	}
	kind := ""
	for top.Next() {
		switch top.Type() {
		case tcaKind:
			kind = top.String()
		case tcaOptions:
			if kind == "flower" {
				top.Nested(x.options)
			}
		}
	}
	return x, top.Err() == nil
}

// options reads what a filter matches, its flags, and its first action's cookie.
func (x *filter) options(a *netlink.AttributeDecoder) error {
	k := &x.key
	port := func(p *uint16) {
		if b := a.Bytes(); len(b) == 2 {
			*p = binary.BigEndian.Uint16(b)
		}
	}
	for a.Next() {
		switch a.Type() {
		case flowerProto:
			k.Proto = a.Uint8()
		case flowerSrc4:
			copy(k.Src[:], a.Bytes())
		case flowerDst4:
			copy(k.Dst[:], a.Bytes())
		case flowerSrc6:
			k.V6 = true
			copy(k.Src[:], a.Bytes())
		case flowerDst6:
			copy(k.Dst[:], a.Bytes())
		case flowerTCPSrc, flowerUDPSrc:
			port(&k.SrcPort)
		case flowerTCPDst, flowerUDPDst:
			port(&k.DstPort)
		case flowerVLAN:
			k.VLAN[0] = a.Uint16()
		case flowerFlags:
			x.flags = a.Uint32()
		case flowerAct:
			a.Nested(func(a *netlink.AttributeDecoder) error {
				for a.Next() {
					a.Nested(func(a *netlink.AttributeDecoder) error {
						for a.Next() {
							if a.Type() == actCookie {
								x.cookie = slices.Clone(a.Bytes())
							}
						}
						return nil
					})
				}
				return nil
			})
		}
	}
	return nil
}

// everywhere are the places where filters of ours can be: of all interfaces, or of some.
func (f *flower) everywhere(names []string) (list []Place, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	f.index = map[string]int{}
	for _, i := range all {
		if names == nil || slices.Contains(names, i.Name) {
			f.index[i.Name] = i.Index
			list = append(list, Place{i.Name, false}, Place{i.Name, true})
		}
	}
	return list, nil
}

// list are our filters, joined to the rules that they are parts of.
func (f *flower) list(places []Place) (found []Found, err error) {
	at := map[Flow]int{}
	for _, p := range places {
		filters, err := f.dump(p)
		if err != nil {
			return nil, err
		}
		for i := range filters {
			x := &filters[i]
			kind, id, until, ok := readCookie(x.cookie)
			if !ok {
				continue
			}
			fl := Flow{Tagged: x.protocol != unix.ETH_P_ALL}
			fl.Key, _ = x.key.Canonical()
			n, seen := at[fl]
			if !seen {
				n = len(found)
				at[fl] = n
				found = append(found, Found{Backend: "flower", Kind: kind, Flow: fl, FlowID: id, Left: time.Until(time.Unix(until, 0))})
			}
			if w := p.String(); !slices.Contains(found[n].Where, w) {
				found[n].Where = append(found[n].Where, w)
			}
		}
	}
	return found, nil
}
