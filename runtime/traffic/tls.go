package traffic

// tlsPart is what a byte at the beginning of a TLS stream is.
type tlsPart uint8

const (
	tlsOther tlsPart = iota
	tlsRandom
	tlsName
)

// tls follows one side of a TLS connection from its first byte on, byte by byte, and tells which bytes are the random
// bytes of a hello and which a server's name (RFC 8446, RFC 6066). It goes by the lengths of records, messages,
// extensions and names alone, each within the one around it, as the receiver does: messages may be spread over records in any way.
// Nothing is searched for, so that no bytes pose as a hello that are none to their receiver. With the first byte that
// fits no TLS it stops, and so it does with the first record that is no handshake: what comes then is
// encrypted. Hence not found: hellos that don't begin the stream (STARTTLS, a proxy's header), those of DTLS and QUIC, and a
// second client hello behind a change of ciphers. The zero value has seen nothing.
type tls struct {
	dead bool
	// The record: bytes of its header that have come, and bytes of its content that are still to come.
	head   uint8
	record uint16

	step  tlsStep
	left  uint32 // bytes of the step that are still to come
	value uint32 // the number that the step's bytes make
	hello uint8  // the type of the message, where it is a hello
	ext   uint16 // the type of the extension
	// Bytes still to come of the message, of its extensions, of the extension.
	message, extensions, extension uint32
}

const (
	tlsHandshake   = 22
	tlsClientHello = 1
	tlsServerHello = 2
	tlsServerName  = 0 // the extension
)

// tlsStep is a field, in the order of nesting: of the handshake, a message, its extensions, an extension.
type tlsStep uint8

const (
	stepType tlsStep = iota
	stepLength

	stepSkip // a message that is no hello
	stepVersion
	stepRandom
	stepSessionLength
	stepSession
	stepSuitesLength
	stepSuites
	stepMethodsLength
	stepMethods
	stepChoice // a server's suite and method
	stepExtensionsLength

	stepExtensionType
	stepExtensionLength

	stepExtension
	stepListLength // server names
	stepNameType
	stepNameLength
	stepName
)

// next takes a byte of the stream and says what it is.
func (t *tls) next(b byte) tlsPart {
	switch {
	case t.dead:
		return tlsOther
	case t.record == 0 || t.head < 5:
		t.header(b)
		return tlsOther
	}
	if t.record--; t.record == 0 {
		t.head = 0
	}
	if t.step == stepType {
		t.left, t.value = 1, 0
	}
	part := tlsOther
	switch t.step {
	case stepRandom:
		part = tlsRandom
	case stepName:
		part = tlsName
	}
	t.value = t.value<<8 | uint32(b)
	if t.step > stepLength {
		t.message--
	}
	if t.step > stepExtensionsLength {
		t.extensions--
	}
	if t.step > stepExtensionLength {
		t.extension--
	}
	if t.left--; t.left == 0 {
		t.end()
	}
	return part
}

// header takes a byte of a record's header: content type, version, length.
func (t *tls) header(b byte) {
	switch t.head++; t.head {
	case 1:
		t.dead = b != tlsHandshake
	case 2:
		t.dead = b != 3
	case 3:
		t.dead = b > 4
	case 4:
		t.record = uint16(b) << 8
	case 5:
		t.record |= uint16(b)
		t.dead = t.record == 0 || t.record > 1<<14
	}
}

// begin begins a step of n bytes, which have to lie within what the step is part of.
func (t *tls) begin(s tlsStep, n uint32) {
	t.step, t.left, t.value = s, n, 0
	if s > stepLength && n > t.message || s > stepExtensionsLength && n > t.extensions || s > stepExtensionLength && n > t.extension {
		t.dead = true
		return
	}
	if n == 0 {
		t.end()
	}
}

// end ends a step: what follows is told by where it stands, and by the number that it held.
func (t *tls) end() {
	switch v := t.value; t.step {
	case stepType:
		t.hello = uint8(v)
		t.begin(stepLength, 3)
	case stepLength:
		t.message = v
		if t.hello == tlsClientHello || t.hello == tlsServerHello {
			t.begin(stepVersion, 2)
		} else {
			t.begin(stepSkip, v)
		}
	case stepSkip:
		t.step = stepType
	case stepVersion:
		t.dead = v>>8 != 3
		t.begin(stepRandom, 32)
	case stepRandom:
		t.begin(stepSessionLength, 1)
	case stepSessionLength:
		t.begin(stepSession, v)
	case stepSession:
		if t.hello == tlsClientHello {
			t.begin(stepSuitesLength, 2)
		} else {
			t.begin(stepChoice, 3)
		}
	case stepSuitesLength:
		t.begin(stepSuites, v)
	case stepSuites:
		t.begin(stepMethodsLength, 1)
	case stepMethodsLength:
		t.begin(stepMethods, v)
	case stepMethods, stepChoice:
		if t.message == 0 { // no extensions
			t.step = stepType
			return
		}
		t.begin(stepExtensionsLength, 2)
	case stepExtensionsLength:
		t.dead = v != t.message
		t.extensions = v
		t.nextExtension()
	case stepExtensionType:
		t.ext = uint16(v)
		t.begin(stepExtensionLength, 2)
	case stepExtensionLength:
		if t.extension = v; v > t.extensions {
			t.dead = true
			return
		}
		if t.ext == tlsServerName && t.hello == tlsClientHello && v > 0 {
			t.begin(stepListLength, 2)
		} else {
			t.begin(stepExtension, v)
		}
	case stepExtension:
		t.nextExtension()
	case stepListLength:
		t.dead = v != t.extension
		t.nextName()
	case stepNameType:
		t.begin(stepNameLength, 2)
	case stepNameLength:
		t.begin(stepName, v)
	case stepName:
		t.nextName()
	}
}

func (t *tls) nextExtension() {
	if t.extensions == 0 {
		t.step = stepType // the message's end, or the lengths would not fit
		return
	}
	t.begin(stepExtensionType, 2)
}

func (t *tls) nextName() {
	if t.extension == 0 {
		t.nextExtension()
		return
	}
	t.begin(stepNameType, 1)
}

// blanks tells whether a byte of this kind is set to zero.
func (s *blankSet) blanks(p tlsPart) bool {
	return p == tlsRandom && s.random || p == tlsName && s.sni
}

// payload blanks fields of b, which are the first bytes of a packet's payload.
func (s *blankSet) payload(b []byte) {
	var t tls
	for i := 0; i < len(b) && !t.dead; i++ {
		if s.blanks(t.next(b[i])) {
			b[i] = 0
		}
	}
}
