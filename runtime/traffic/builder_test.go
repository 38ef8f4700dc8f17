package traffic

// Builder builds the sequence of one flow at a time: an Encoder with its own
// state, where a flow table keeps the State of many.
type Builder struct {
	enc    *Encoder
	st     State
	buf    []byte
	tokens []int32
}

// NewBuilder returns an empty builder.
func NewBuilder(c Contract) (*Builder, error) {
	e, err := NewEncoder(c)
	if err != nil {
		return nil, err
	}
	return &Builder{enc: e, buf: make([]byte, e.BufferSize()), tokens: make([]int32, c.Length)}, nil
}

// Reset forgets the flow.
func (b *Builder) Reset() { b.st = State{} }

// Add adds a packet without TCP options; see Encoder.Append.
func (b *Builder) Add(ip []byte, l4 int, proto uint8) {
	head := 8
	if proto == protoTCP {
		head = 20
	}
	payload := min(l4+head, len(ip))
	b.enc.Append(&b.st, b.buf, &Packet{IP: ip, L4: l4, Payload: payload, Proto: proto, Size: len(ip) - payload})
}

// Full reports whether further packets cannot change the sequence.
func (b *Builder) Full() bool { return b.enc.Full(b.st) }

// Packets is the number of packets added so far, BytesUsed the bytes that
// their tokens hold (with the zero byte that pads an odd packet).
func (b *Builder) Packets() int   { return int(b.st.Packets) }
func (b *Builder) BytesUsed() int { return int(b.st.Bytes) }

// Tokens is the sequence as it is now, padded to the contract's length, and
// the number of valid tokens. The slice is overwritten by the next call.
func (b *Builder) Tokens() (tokens []int32, valid int) {
	valid = b.enc.Tokens(b.tokens, b.st, b.buf)
	return b.tokens, valid
}

// Stable is the number of leading tokens that no further packet can change.
func (b *Builder) Stable() int { return b.enc.Stable(b.st) }

// Origin maps a position to packet bytes; see Encoder.Origin.
func (b *Builder) Origin(pos int) (Origin, bool) { return b.enc.Origin(b.st, b.buf, pos) }
