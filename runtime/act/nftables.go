package act

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"nepcoc/runtime/flow"
)

// nft puts rules into a table of its own, of the netdev family: a chain for each place, and for each entry of the configuration sets
// of flows (IPv4 and IPv6, each with and without a VLAN id) that a rule of every chain looks packets up in. An element is one direction of
// a flow and has a timeout, so that the kernel forgets it whatever becomes of us. The look-up costs the same for any number of flows.
//
// The table is not bound to our socket (NFT_TABLE_F_OWNER would end it with the process): others could neither see into it nor take
// it away, which is what an operator must be able to do above all.
type nft struct {
	conn   *nftables.Conn
	raw    *netlink.Conn
	links  *links // nil where rules are only listed
	table  *nftables.Table
	places []Place
	index  map[string]int // of interfaces
	sets   []*nftables.Set
	rules  int // of each chain
	late   late
}

// tablePrefix begins the names of our tables; the captured interface follows.
const tablePrefix = "nepcod_"

// dialNFT opens the socket.
func dialNFT() (*nft, error) {
	n := new(nft)
	var err error
	n.conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		n.raw = c
		return c.SetReadBuffer(4 << 20) // an answer for each message of a batch
	}))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return n, nil
}

// openNFT makes the table; one that is there is replaced. captured names it.
func openNFT(c *Config, captured string) (*nft, error) {
	n, err := dialNFT()
	if err != nil {
		return nil, err
	}
	n.places = c.Places(captured)
	if n.index, err = indices(c, captured); err != nil {
		n.Close()
		return nil, err
	}
	if n.links, err = openLinks(); err != nil {
		n.Close()
		return nil, err
	}
	n.table = &nftables.Table{Name: tablePrefix + captured, Family: nftables.TableFamilyNetdev}
	if err = n.Undo(); err == nil {
		err = n.build(c)
	}
	if err != nil {
		n.Undo()
		n.Close()
		return nil, fmt.Errorf("nftables: %w", hint(err))
	}
	return n, nil
}

// hint says what an error of the kernel's means.
func hint(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: rules need CAP_NET_ADMIN", err)
	}
	return err
}

// indices are those of all interfaces that a configuration names.
func indices(c *Config, captured string) (map[string]int, error) {
	names := slices.Clone(c.Interfaces)
	if len(names) == 0 {
		names = []string{captured}
	}
	for i := range c.Rules {
		if to := c.Rules[i].To; to != "" {
			names = append(names, to)
		}
	}
	m := map[string]int{}
	for _, name := range names {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", name, err)
		}
		m[name] = i.Index
	}
	return m, nil
}

// flush sends what was prepared.
func (n *nft) flush() error {
	n.late.settle(n.raw)
	n.raw.SetDeadline(time.Now().Add(Patience))
	err := n.conn.Flush()
	n.late.note(err)
	return err
}

// form is one of the four kinds of sets.
type form struct{ v6, tagged bool }

var forms = [4]form{{false, false}, {true, false}, {false, true}, {true, true}}

func (f form) name() string {
	s := "ip4"
	if f.v6 {
		s = "ip6"
	}
	if f.tagged {
		s += "_vlan"
	}
	return s
}

// number is the form's place in forms.
func (f form) number() int { return slices.Index(forms[:], f) }

// keyType is what a set's elements are made of.
func (f form) keyType() nftables.SetDatatype {
	a := nftables.TypeIPAddr
	if f.v6 {
		a = nftables.TypeIP6Addr
	}
	if f.tagged {
		// Five parts are all that a type can be named of: both ports are one number of four bytes. The VLAN id has a type that the
		// library does not know; its bytes are those of a port's.
		return nftables.MustConcatSetType(a, a, nftables.TypeInetProto, nftables.TypeMark, nftables.TypeInetService)
	}
	return nftables.MustConcatSetType(a, a, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeInetService)
}

// key is the element of one direction.
func (f form) key(k flow.Key) []byte {
	size := 4
	if f.v6 {
		size = 16
	}
	b := append(append([]byte(nil), k.Src[:size]...), k.Dst[:size]...)
	b = append(b, k.Proto, 0, 0, 0) // each part is filled to four bytes
	b = binary.BigEndian.AppendUint16(b, k.SrcPort)
	if f.tagged {
		b = binary.BigEndian.AppendUint16(b, k.DstPort)
		return append(binary.BigEndian.AppendUint16(b, k.VLAN[0]), 0, 0)
	}
	b = append(b, 0, 0)
	return append(binary.BigEndian.AppendUint16(b, k.DstPort), 0, 0)
}

// flowOf reads key back; false if it is none of ours.
func (f form) flowOf(b []byte) (fl Flow, ok bool) {
	size, want := 4, 4+4+12
	if f.v6 {
		size, want = 16, 16+16+12
	}
	if len(b) != want {
		return fl, false
	}
	k := flow.Key{V6: f.v6}
	copy(k.Src[:], b[:size])
	copy(k.Dst[:], b[size:2*size])
	b = b[2*size:]
	k.Proto, k.SrcPort = b[0], binary.BigEndian.Uint16(b[4:])
	if f.tagged {
		k.DstPort, k.VLAN[0] = binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[8:])
	} else {
		k.DstPort = binary.BigEndian.Uint16(b[8:])
	}
	return Flow{Key: k, Tagged: f.tagged}, true
}

// chainName is "ingress_p0" or "egress_p0".
func chainName(p Place) string {
	if p.Egress {
		return "egress_" + p.Interface
	}
	return "ingress_" + p.Interface
}

// build makes table, sets and chains.
func (n *nft) build(c *Config) error {
	n.conn.AddTable(n.table)
	// Elements that have timed out take room until they are collected, about once a second.
	size := uint32(2 * (c.MaxRules + 4*c.RulesPerSecond + Batch))
	var meters []*nftables.Set
	for i := range c.Rules {
		e := &c.Rules[i]
		for _, f := range forms {
			s := &nftables.Set{
				Table: n.table, Name: fmt.Sprintf("%s_%d_%s", e.Do, i, f.name()), KeyType: f.keyType(), Concatenation: true, HasTimeout: true, Size: size,
			}
			if err := n.conn.AddSet(s, nil); err != nil {
				return err
			}
			n.sets = append(n.sets, s)
			var meter *nftables.Set
			if e.effect().Kind == RateLimit {
				// Each direction of a flow has a bucket here, made by its first packet.
				meter = &nftables.Set{
					Table: n.table, Name: fmt.Sprintf("meter_%d_%s", i, f.name()), KeyType: f.keyType(), Concatenation: true, HasTimeout: true, Dynamic: true, Size: size, Timeout: e.limit(),
				}
				if err := n.conn.AddSet(meter, nil); err != nil {
					return err
				}
			}
			meters = append(meters, meter)
		}
	}
	// Sets are there before chains look packets up in them.
	if err := n.flush(); err != nil {
		return err
	}
	accept := nftables.ChainPolicyAccept
	for _, p := range n.places {
		hook := nftables.ChainHookIngress
		if p.Egress {
			hook = nftables.ChainHookEgress
		}
		chain := n.conn.AddChain(&nftables.Chain{
			Name: chainName(p), Table: n.table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityMangle, Policy: &accept, Device: p.Interface,
		})
		n.rules = 0
		for k, s := range n.sets {
			for _, lookup := range forms[k%len(forms)].lookups(s) {
				n.rules++
				n.conn.AddRule(&nftables.Rule{Table: n.table, Chain: chain, Exprs: append(lookup, n.do(c.Rules[k/len(forms)].effect(), meters[k])...)})
			}
		}
		if err := n.flush(); err != nil {
			if p.Egress && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)) {
				return fmt.Errorf("%s: this kernel has no hook there (since 5.16): name both interfaces that the traffic enters by, and egress: false: %w", p, err)
			}
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// The registers of four bytes that expressions work with: the key lies from the first on.
const (
	regKey  = 8
	regWork = 8 + 12
)

// lookups are the beginnings of the rules that look a packet up in a set: one for each way of being a packet that has ports, and, where tags
// tell flows apart, of being tagged.
func (f form) lookups(s *nftables.Set) (list [][]expr.Any) {
	ethertype, src, dst, size := uint16(unix.ETH_P_IP), uint32(12), uint32(16), uint32(4)
	if f.v6 {
		ethertype, src, dst, size = unix.ETH_P_IPV6, 8, 24, 16
	}
	words := size / 4
	ports := func(at, offset, size uint32) expr.Any {
		return &expr.Payload{DestRegister: regKey + 2*words + at, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}
	}
	for _, whole := range f.first() {
		match := append([]expr.Any{
			// The protocol behind the tag that the system has taken off; behind a second one it would be that of the tag.
			&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: regWork},
			&expr.Cmp{Register: regWork, Data: binaryutil.BigEndian.PutUint16(ethertype)},
		}, whole...)
		match = append(match,
			&expr.Payload{DestRegister: regKey, Base: expr.PayloadBaseNetworkHeader, Offset: src, Len: size},
			&expr.Payload{DestRegister: regKey + words, Base: expr.PayloadBaseNetworkHeader, Offset: dst, Len: size},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: regKey + 2*words})
		found := &expr.Lookup{SourceRegister: regKey, SetName: s.Name, SetID: s.ID}
		if !f.tagged {
			list = append(list, append(match, ports(1, 0, 2), ports(2, 2, 2), found))
			continue
		}
		match = append(match, ports(1, 0, 4))
		id := regKey + 2*words + 2
		link := func(tpid uint16) []expr.Any {
			return append(slices.Clone(match),
				&expr.Payload{DestRegister: regWork, Base: expr.PayloadBaseLLHeader, Offset: 12, Len: 2},
				&expr.Cmp{Register: regWork, Data: binaryutil.BigEndian.PutUint16(tpid)})
		}
		for _, tpid := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
			list = append(list, append(link(tpid),
				&expr.Payload{DestRegister: id, Base: expr.PayloadBaseLLHeader, Offset: 14, Len: 2},
				&expr.Bitwise{SourceRegister: id, DestRegister: id, Len: 2, Mask: []byte{0x0f, 0xff}, Xor: []byte{0, 0}}, found))
		}
		list = append(list, append(link(ethertype), &expr.Immediate{Register: id, Data: []byte{0, 0, 0, 0}}, found))
	}
	return list
}

// first are the ways of having ports: of being no fragment, or the first one. Where the hook is an interface's, the kernel (seen in 6.18) reads ports of
// later fragments, too, out of whatever lies there, so that a stranger's fragment would meet a rule.
func (f form) first() [][]expr.Any {
	zero := &expr.Cmp{Register: regWork, Data: []byte{0, 0}}
	if !f.v6 {
		return [][]expr.Any{{
			&expr.Payload{DestRegister: regWork, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
			&expr.Bitwise{SourceRegister: regWork, DestRegister: regWork, Len: 2, Mask: []byte{0x1f, 0xff}, Xor: []byte{0, 0}}, zero,
		}}
	}
	const header, present = unix.IPPROTO_FRAGMENT, unix.NFT_EXTHDR_F_PRESENT
	return [][]expr.Any{
		{&expr.Exthdr{DestRegister: regWork, Type: header, Len: 1, Flags: present, Op: expr.ExthdrOpIpv6}, &expr.Cmp{Register: regWork, Data: []byte{0}}},
		{
			&expr.Exthdr{DestRegister: regWork, Type: header, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
			&expr.Bitwise{SourceRegister: regWork, DestRegister: regWork, Len: 2, Mask: []byte{0xff, 0xf8}, Xor: []byte{0, 0}}, zero,
		},
	}
}

// do are the expressions behind a look-up that has found something.
func (n *nft) do(e Effect, meter *nftables.Set) []expr.Any {
	count := &expr.Counter{}
	switch e.Kind {
	case Mark:
		return []expr.Any{count, &expr.Immediate{Register: regWork, Data: binaryutil.NativeEndian.PutUint32(e.Mark)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: regWork}}
	case Mirror:
		return []expr.Any{count, &expr.Immediate{Register: regWork, Data: binaryutil.NativeEndian.PutUint32(uint32(n.index[e.To]))}, &expr.Dup{RegDev: regWork, IsRegDevSet: true}}
	case RateLimit:
		return []expr.Any{
			&expr.Dynset{SrcRegKey: regKey, SetName: meter.Name, SetID: meter.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Exprs: []expr.Any{
				&expr.Limit{Type: expr.LimitTypePktBytes, Rate: e.Rate, Unit: expr.LimitTimeSecond, Burst: burst(e.Rate), Over: true},
			}},
			count, &expr.Verdict{Kind: expr.VerdictDrop},
		}
	default:
		return []expr.Any{count, &expr.Verdict{Kind: expr.VerdictDrop}}
	}
}

// burst is what a rate lets through at once, in bytes: a tenth of a second's, and at least a large packet.
func burst(rate uint64) uint32 { return uint32(max(rate/10, 64<<10)) }

// elements are those of a rule, both directions.
func (n *nft) elements(r *Rule) (*nftables.Set, []nftables.SetElement) {
	f := form{r.Flow.Key.V6, r.Flow.Tagged}
	comment := strconv.FormatUint(r.FlowID, 10) + " " + r.Label
	comment = comment[:min(len(comment), 100)]
	list := []nftables.SetElement{{Key: f.key(r.Flow.Key), Timeout: r.For, Comment: comment}}
	back := r.Flow.Key.Reverse()
	if b := f.key(back); string(b) != string(list[0].Key) {
		list = append(list, nftables.SetElement{Key: b, Timeout: r.For, Comment: comment})
	}
	return n.sets[r.Entry*len(forms)+f.number()], list
}

// Name implements Backend.
func (n *nft) Name() string { return "nftables" }

// Expires implements Backend.
func (n *nft) Expires() bool { return true }

// Hardware implements Backend.
func (n *nft) Hardware(Rule) string { return "" }

// Add implements Backend: all rules in one transaction and, where that fails, one by one.
func (n *nft) Add(rules []Rule) []error {
	errs := make([]error, len(rules))
	err := n.add(rules)
	if err == nil {
		return errs
	}
	if len(rules) == 1 || errors.Is(err, os.ErrDeadlineExceeded) {
		for i := range errs {
			errs[i] = err
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			n.Delete(rules) // which nobody has answered for, and may be there
		}
		return errs
	}
	for i := range rules {
		errs[i] = n.add(rules[i : i+1])
	}
	return errs
}

func (n *nft) add(rules []Rule) error {
	for i := range rules {
		s, list := n.elements(&rules[i])
		if err := n.conn.SetAddElements(s, list); err != nil {
			return err
		}
	}
	err := n.flush()
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return hint(err)
}

// Delete implements Backend. Where one direction is gone already, the kernel takes neither away in one go.
func (n *nft) Delete(rules []Rule) error {
	var errs []error
	for i := range rules {
		set, list := n.elements(&rules[i])
		err := n.remove(set, list)
		if errors.Is(err, unix.ENOENT) {
			err = nil
			for k := range list {
				if one := n.remove(set, list[k:k+1]); !errors.Is(one, unix.ENOENT) {
					err = errors.Join(err, one)
				}
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove takes elements out of a set, all or none.
func (n *nft) remove(s *nftables.Set, list []nftables.SetElement) error {
	if err := n.conn.SetDeleteElements(s, list); err != nil {
		return err
	}
	return n.flush()
}

// Check implements Backend: the chains and their rules, which all elements hang on, are there, the interfaces are the same, those of copies too, and some of the elements
// are there.
func (n *nft) Check(some []Rule) (lost []int, err error) {
	if err := n.checkChains(); err != nil {
		return nil, err
	}
	for i := range some {
		set, list := n.elements(&some[i])
		for _, e := range list {
			there, err := n.has(set, e.Key)
			if err != nil {
				return nil, err
			}
			if !there {
				lost = append(lost, i)
				break
			}
		}
	}
	for _, i := range lost {
		if err := n.Delete(some[i : i+1]); err != nil {
			return nil, err
		}
	}
	return lost, nil
}

// has asks for one element of a set.
func (n *nft) has(s *nftables.Set, key []byte) (bool, error) {
	a := netlink.NewAttributeEncoder()
	a.String(unix.NFTA_SET_ELEM_LIST_TABLE, n.table.Name)
	a.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	a.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(a *netlink.AttributeEncoder) error {
		a.Nested(unix.NFTA_LIST_ELEM, func(a *netlink.AttributeEncoder) error {
			a.Nested(unix.NFTA_SET_ELEM_KEY, func(a *netlink.AttributeEncoder) error {
				a.Bytes(unix.NFTA_DATA_VALUE, key)
				return nil
			})
			return nil
		})
		return nil
	})
	data, err := a.Encode()
	if err != nil {
		return false, err
	}
	_, err = n.raw.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM, Flags: netlink.Request},
		Data:   append([]byte{unix.NFPROTO_NETDEV, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if n.late.note(err); errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

func (n *nft) checkChains() error {
	n.late.settle(n.raw)
	n.raw.SetDeadline(time.Now().Add(Patience))
	chains, err := n.conn.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if n.late.note(err); err != nil {
		return err
	}
	there := 0
	for _, c := range chains {
		if c.Table.Name != n.table.Name {
			continue
		}
		rules, err := n.conn.GetRules(n.table, c)
		if n.late.note(err); err != nil {
			return err
		}
		if len(rules) >= n.rules {
			there++
		}
	}
	if there < len(n.places) {
		return ErrGone
	}
	// A chain stays when its interface goes (since 6.16), and would wait for another one of that name.
	return n.links.all(n.index)
}

// Undo implements Backend.
func (n *nft) Undo() error {
	n.conn.DelTable(n.table)
	if err := n.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return hint(err)
	}
	return nil
}

// Close implements Backend.
func (n *nft) Close() error {
	if n.links != nil {
		n.links.conn.Close()
	}
	return n.conn.CloseLasting()
}

// tables are ours, of one captured interface or, where that is empty, of all.
func (n *nft) tables(captured string) (list []*nftables.Table, err error) {
	n.raw.SetDeadline(time.Now().Add(Patience))
	all, err := n.conn.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, hint(err)
	}
	for _, t := range all {
		if t.Name == tablePrefix+captured || captured == "" && strings.HasPrefix(t.Name, tablePrefix) {
			list = append(list, t)
		}
	}
	return list, nil
}

// list are the rules in our tables.
func (n *nft) list(captured string) (found []Found, err error) {
	tables, err := n.tables(captured)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		chains, err := n.conn.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
		if err != nil {
			return nil, err
		}
		var where []string
		for _, c := range chains {
			if c.Table.Name == t.Name {
				hook, name, _ := strings.Cut(c.Name, "_")
				where = append(where, name+" "+hook)
			}
		}
		sets, err := n.conn.GetSets(t)
		if err != nil {
			return nil, err
		}
		for _, s := range sets {
			word, rest, _ := strings.Cut(s.Name, "_")
			_, name, _ := strings.Cut(rest, "_")
			kind := slices.Index(kindNames[:], word)
			f := slices.IndexFunc(forms[:], func(f form) bool { return f.name() == name })
			if kind < 0 || f < 0 {
				continue // a meter
			}
			n.raw.SetDeadline(time.Now().Add(listPatience))
			elements, err := n.conn.GetSetElements(s)
			if err != nil {
				return nil, err
			}
			seen := map[Flow]bool{}
			for i := range elements {
				e := &elements[i]
				fl, ok := forms[f].flowOf(e.Key)
				if !ok {
					continue
				}
				if fl.Key, _ = fl.Key.Canonical(); seen[fl] {
					continue
				}
				seen[fl] = true
				id, label, _ := strings.Cut(e.Comment, " ")
				number, _ := strconv.ParseUint(id, 10, 64)
				found = append(found, Found{Backend: "nftables", Kind: Kind(kind), Flow: fl, Where: where, Label: label, FlowID: number, Left: e.Expires})
			}
		}
	}
	return found, nil
}

// flushAll takes our tables away.
func (n *nft) flushAll(captured string) error {
	tables, err := n.tables(captured)
	for _, t := range tables {
		n.conn.DelTable(t)
	}
	if err == nil && len(tables) > 0 {
		err = n.flush()
	}
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return err
}
