package traffic

// The stream view: a flow's tokens are the first bytes that each side sent, in the order of
// the stream, behind a few facts of the flow:
//
//	CLS · transport · CLIENT · length · client's bytes · SERVER · length · server's bytes · SEP
//
// It is what the hosts see, so it is the same however the bytes were cut into segments and
// fragments, in whatever order and however often those came.

// The ids of a stream's facts follow those of byte values, in this order; then
// one id per bucket of lengths: 0 for nothing, else one more than the number of bits.
const (
	factTCP = iota
	factUDP
	factClient
	factServer
	factLength
	numFacts = factLength + 18
)

// Sides of a flow.
const (
	Client = 0
	Server = 1
)

// Begin is the state of a flow of a transport protocol without packets.
func (e *Encoder) Begin(proto uint8) State { return State{udp: proto == protoUDP} }

// Put adds payload bytes of a side that lie at offset at of its stream; those
// before the stream's beginning and beyond the budget are passed over. Of bytes that have
// come already the first copy stays; conflict tells that the second was another. The buffer of a flow that begins may hold
// anything.
func (e *Encoder) Put(st *State, buf []byte, side int, at int64, payload []byte) (conflict bool) {
	room := int64(e.budget(side))
	if at < 0 {
		if -at >= int64(len(payload)) {
			return false
		}
		payload, at = payload[-at:], 0
	}
	if at >= room || len(payload) == 0 {
		return false
	}
	payload = payload[:min(int64(len(payload)), room-at)]
	bytes, seen := e.side(buf, side)
	have := int(st.Have[side])
	lo, hi := int(at), int(at)+len(payload)
	if lo == have && st.ahead&(1<<side) == 0 {
		copy(bytes[lo:hi], payload)
		st.Have[side] = uint16(hi)
		return false
	}
	if st.ahead&(1<<side) == 0 {
		clear(seen) // of the flow that had the buffer before
	}
	for i, b := range payload {
		switch pos := lo + i; {
		case pos < have || seen[pos>>3]&(1<<(pos&7)) != 0:
			conflict = conflict || bytes[pos] != b
		default:
			bytes[pos] = b
			seen[pos>>3] |= 1 << (pos & 7)
		}
	}
	if hi <= have {
		return conflict
	}
	st.ahead |= 1 << side
	for have < int(room) && seen[have>>3]&(1<<(have&7)) != 0 {
		have++
	}
	st.Have[side] = uint16(have)
	return conflict
}

// Gap tells that bytes of a side have come behind others that have not.
func (e *Encoder) Gap(st State, buf []byte, side int) bool {
	if st.ahead&(1<<side) == 0 {
		return false
	}
	_, seen := e.side(buf, side)
	for i := int(st.Have[side]); i < e.budget(side); i++ {
		if seen[i>>3]&(1<<(i&7)) != 0 {
			return true
		}
	}
	return false
}

// StreamFull tells that no further byte can change the sequence.
func (e *Encoder) StreamFull(st State) bool {
	return int(st.Have[Client]) == e.c.ClientBytes && int(st.Have[Server]) == e.c.ServerBytes
}

// Spoken tells that both sides have sent something, or one all that enters.
func (e *Encoder) Spoken(st State) bool {
	c, s := int(st.Have[Client]), int(st.Have[Server])
	return c > 0 && s > 0 || c == e.c.ClientBytes || s == e.c.ServerBytes
}

// WantsAt tells whether a byte at offset at of a side's stream enters.
func (e *Encoder) WantsAt(side int, at int64) bool { return at >= 0 && at < int64(e.budget(side)) }

func (e *Encoder) budget(side int) int {
	if side == Client {
		return e.c.ClientBytes
	}
	return e.c.ServerBytes
}

// side is where a side's bytes lie in the buffer, and the bits of those that
// have come.
func (e *Encoder) side(buf []byte, side int) (bytes, seen []byte) {
	c, s := e.c.ClientBytes, e.c.ServerBytes
	bits := buf[c+s:]
	if side == Client {
		return buf[:c], bits[:(c+7)/8]
	}
	return buf[c : c+s], bits[(c+7)/8 : (c+7)/8+(s+7)/8]
}

func (c *Contract) streamBuffer() int {
	return c.ClientBytes + c.ServerBytes + (c.ClientBytes+7)/8 + (c.ServerBytes+7)/8
}

// streamTokens is how many facts and byte values a sequence holds at most.
func (c *Contract) streamTokens() int {
	up := func(n int) int { return (n + c.TokenBytes - 1) / c.TokenBytes }
	return 1 + 2 + up(c.ClientBytes) + 2 + up(c.ServerBytes)
}

// streamTokens writes a flow's sequence behind CLS and returns where it ends.
func (e *Encoder) streamTokens(dst []int32, pos int, st State, buf []byte) int {
	off, fact := int32(e.c.ValueOffset), e.fact
	put := func(id int32) {
		if pos < len(dst) {
			dst[pos] = id
			pos++
		}
	}
	if st.udp {
		put(fact + factUDP)
	} else {
		put(fact + factTCP)
	}
	for side := range st.Have {
		put(fact + factClient + int32(side))
		n := int(st.Have[side])
		put(fact + factLength + lengthBucket(n))
		bytes, _ := e.side(buf, side)
		if bytes = bytes[:n]; e.ids != nil || e.blank.tls && !st.udp {
			pos = e.changed(dst, pos, bytes, st.udp)
			continue
		}
		for i := 0; i < n; i += e.c.TokenBytes {
			v := int32(bytes[i])
			if e.c.TokenBytes == 2 {
				v <<= 8
				if i+1 < n {
					v |= int32(bytes[i+1])
				}
			}
			put(off + v)
		}
	}
	return pos
}

// streamOrigin is Origin of the token at pos behind CLS: transport, then of each side its name, a length, its bytes.
func (e *Encoder) streamOrigin(st State, pos int) (o Origin, ok bool) {
	pos--
	for side, n := range st.Have {
		tokens := (int(n) + e.c.TokenBytes - 1) / e.c.TokenBytes
		if pos -= 2; pos < tokens {
			at := pos * e.c.TokenBytes
			return Origin{Side: side, Offset: at, Bytes: min(e.c.TokenBytes, int(n)-at)}, pos >= 0
		}
		pos -= tokens
	}
	return o, false
}

// changed writes a side's bytes where some are blanked or have ids of their own. Nothing is changed in the buffer, where copies
// that come later are compared with the bytes that came.
func (e *Encoder) changed(dst []int32, pos int, bytes []byte, udp bool) int {
	t := tls{dead: !e.blank.tls || udp}
	word, size := [2]byte{}, e.c.TokenBytes
	for i, b := range bytes {
		if !t.dead && e.blank.blanks(t.next(b)) {
			b = 0
		}
		word[i%size] = b
		if i%size == size-1 || i == len(bytes)-1 {
			if pos < len(dst) {
				pos += e.values(dst[pos:], word[:size], int32(e.c.ValueOffset))
			}
			word = [2]byte{}
		}
	}
	return pos
}

var factNames = [factLength]string{"tcp", "udp", "client", "server"}

// Fact is the name of the fact that a token stands for: tcp, udp, client, server, or length; "" for other tokens.
func (c *Contract) Fact(token int32) string {
	k := int(token) - c.firstFact()
	switch {
	case !c.isFact(int(token)):
		return ""
	case k < factLength:
		return factNames[k]
	}
	return "length"
}

// lengthBucket is the number of bits of n, 17 at most.
func lengthBucket(n int) (b int32) {
	for ; n > 0 && b < numFacts-factLength-1; n >>= 1 {
		b++
	}
	return b
}
