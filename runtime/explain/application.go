package explain

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Application names the bytes of a packet's payload, or of one side's stream from its beginning: every byte is in one field. A protocol
// is told by what the bytes are, not by ports, since the protocol that a port stands for is what a model is asked. Bytes that
// fit none are lines of text, or "payload". Names are those that Wireshark has, where it has one.
func Application(b []byte) []Field {
	c := &cursor{b: b}
	for _, p := range protocols {
		if p(c) && c.at > 0 {
			break
		}
		*c = cursor{b: b}
	}
	c.take(len(b), "payload")
	for i := range c.list {
		c.list[i].Part = "payload"
	}
	return c.list
}

// protocols parse from the cursor on as far as they understand the bytes, which may be cut anywhere; false: these are others.
var protocols = []func(*cursor) bool{http, ssh, tlsRecords, stun, ntp, dns, dnsTCP, lines}

// cursor walks bytes and names those that it has passed.
type cursor struct {
	b    []byte
	at   int
	list []Field
}

// take names the next n bytes, or those that are left, and returns them.
func (c *cursor) take(n int, name string) []byte {
	n = max(0, min(n, len(c.b)-c.at))
	if n > 0 {
		c.list = append(c.list, Field{From: c.at, To: c.at + n, Name: name})
		c.at += n
	}
	return c.b[c.at-n : c.at]
}

// number is take of a big-endian number; 0 where the bytes end before.
func (c *cursor) number(n int, name string) (v int) {
	b := c.take(n, name)
	if len(b) < n {
		return 0
	}
	for _, x := range b {
		v = v<<8 | int(x)
	}
	return v
}

func (c *cursor) rest() []byte { return c.b[c.at:] }

// line takes up to the end of a line, that included.
func (c *cursor) line(name string) []byte {
	n := len(c.rest())
	if i := bytes.IndexByte(c.rest(), '\n'); i >= 0 {
		n = i + 1
	}
	return c.take(n, name)
}

// word takes up to a space, that included, or to the line's end, that not.
func (c *cursor) word(name string) {
	n := len(c.rest())
	if i := bytes.IndexAny(c.rest(), " \r\n"); i >= 0 {
		n = i
		if c.rest()[i] == ' ' {
			n++
		}
	}
	c.take(n, name)
}

var methods = []string{"GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "}

// http is RFC 9112: a start line, header fields, a body.
func http(c *cursor) bool {
	switch text := string(c.b[:min(len(c.b), 9)]); {
	case strings.HasPrefix(text, "HTTP/"):
		c.word("http.response.version")
		c.word("http.response.code")
		c.line("http.response.phrase")
	default:
		known := false
		for _, m := range methods {
			known = known || strings.HasPrefix(text, m)
		}
		// SIP and RTSP have requests of this form, too, and say so at the line's end.
		first, _, _ := bytes.Cut(c.b, []byte{'\n'})
		if !known || bytes.Contains(first, []byte(" SIP/")) || bytes.Contains(first, []byte(" RTSP/")) {
			return false
		}
		c.word("http.request.method")
		c.word("http.request.uri")
		c.line("http.request.version")
	}
	for len(c.rest()) > 0 {
		name, _, ok := bytes.Cut(c.rest(), []byte{':'})
		switch {
		case bytes.HasPrefix(c.rest(), []byte("\r\n")):
			c.take(2, "http.header_end")
			c.take(len(c.b), "http.file_data")
		case !ok || bytes.ContainsAny(name, "\r\n "):
			c.line("http.header")
		default:
			c.line("http." + strings.ReplaceAll(strings.ToLower(string(name)), "-", "_"))
		}
	}
	return true
}

// sshLists are the name lists of a KEXINIT in its order (RFC 4253).
var sshLists = []string{
	"ssh.kex_algorithms", "ssh.server_host_key_algorithms", "ssh.encryption_algorithms_client_to_server", "ssh.encryption_algorithms_server_to_client",
	"ssh.mac_algorithms_client_to_server", "ssh.mac_algorithms_server_to_client", "ssh.compression_algorithms_client_to_server",
	"ssh.compression_algorithms_server_to_client", "ssh.languages_client_to_server", "ssh.languages_server_to_client",
}

// ssh is RFC 4253: the version, then, before keys are changed, packets that can be read.
func ssh(c *cursor) bool {
	if bytes.HasPrefix(c.b, []byte("SSH-")) {
		c.line("ssh.protocol")
	}
	for b := c.rest(); len(b) >= 6; b = c.rest() {
		length, padding, code := binary.BigEndian.Uint32(b), b[4], b[5]
		if length > 35000 || uint32(padding)+2 > length || padding < 4 || code == 0 || c.at == 0 && code != 20 {
			break
		}
		end := c.at + 4 + int(length)
		c.take(4, "ssh.packet_length")
		c.take(1, "ssh.padding_length")
		c.take(1, "ssh.message_code")
		if code == 20 {
			c.take(16, "ssh.cookie")
			for _, name := range sshLists {
				c.take(c.number(4, name+"_length"), name)
			}
			c.take(1, "ssh.first_kex_packet_follows")
			c.take(4, "ssh.reserved")
		}
		c.take(end-c.at, "ssh.payload")
	}
	return c.at > 0
}

// tlsExtensions are those that are named.
var tlsExtensions = map[int]string{
	0: "extensions_server_name", 10: "extensions_supported_groups", 11: "extensions_ec_point_formats", 13: "sig_hash_algs", 16: "extensions_alpn_str",
	23: "extended_master_secret", 35: "session_ticket", 43: "extensions.supported_versions", 45: "extensions.psk_ke_modes", 51: "extensions_key_share",
}

// tlsRecords are records of RFC 8446 and its elders, with what handshakes say before they are encrypted.
func tlsRecords(c *cursor) bool {
	for b := c.rest(); len(b) >= 3 && b[0] >= 20 && b[0] <= 24 && b[1] == 3 && b[2] <= 4; b = c.rest() {
		c.take(1, "tls.record.content_type")
		c.take(2, "tls.record.version")
		end := c.at + 2 + c.number(2, "tls.record.length")
		if end = min(end, len(c.b)); c.at == end {
			break
		}
		whole := c.b
		c.b = whole[:end]
		switch b[0] {
		case 22:
			for len(c.rest()) > 0 && tlsHandshake(c) {
			}
		case 21:
			c.take(1, "tls.alert_message.level")
			c.take(1, "tls.alert_message.desc")
		case 20:
			c.take(1, "tls.change_cipher_spec")
		}
		c.take(len(c.rest()), "tls.app_data")
		c.b = whole
	}
	return c.at > 0
}

// tlsHandshake takes a message; false: what follows is encrypted.
func tlsHandshake(c *cursor) bool {
	kind := c.rest()[0]
	if kind > 24 || len(c.rest()) >= 2 && c.rest()[1] != 0 {
		return false
	}
	c.take(1, "tls.handshake.type")
	end := c.at + 3 + c.number(3, "tls.handshake.length")
	whole := c.b
	c.b = whole[:min(end, len(whole))]
	switch kind {
	case 1, 2:
		c.take(2, "tls.handshake.version")
		c.take(32, "tls.handshake.random")
		c.take(c.number(1, "tls.handshake.session_id_length"), "tls.handshake.session_id")
		if kind == 1 {
			c.take(c.number(2, "tls.handshake.cipher_suites_length"), "tls.handshake.ciphersuites")
			c.take(c.number(1, "tls.handshake.comp_methods_length"), "tls.handshake.comp_methods")
		} else {
			c.take(2, "tls.handshake.ciphersuite")
			c.take(1, "tls.handshake.comp_method")
		}
		c.number(2, "tls.handshake.extensions_length")
		for len(c.rest()) >= 4 {
			number := c.number(2, "tls.handshake.extension.type")
			name := tlsExtensions[number]
			if name == "" {
				name = fmt.Sprintf("extension %d", number)
			}
			c.take(c.number(2, "tls.handshake.extension.len"), "tls.handshake."+name)
		}
		c.take(len(c.rest()), "tls.handshake.extension.type")
	case 11:
		c.take(len(c.rest()), "tls.handshake.certificate")
	default:
		c.take(len(c.rest()), "tls.handshake")
	}
	c.b = whole
	return true
}

// fixed takes fields of fixed sizes, as far as there are bytes.
func (c *cursor) fixed(prefix string, fields []sized) bool {
	for _, f := range fields {
		c.take(f.size, prefix+f.name)
	}
	return true
}

type sized struct {
	name string
	size int
}

// stun is RFC 8489: told by the magic cookie.
func stun(c *cursor) bool {
	if len(c.b) < 8 || c.b[0] >= 0x40 || binary.BigEndian.Uint32(c.b[4:]) != 0x2112a442 {
		return false
	}
	c.fixed("stun.", []sized{{"type", 2}, {"length", 2}, {"cookie", 4}, {"id", 12}})
	for len(c.rest()) >= 4 {
		c.take(2, "stun.att.type")
		n := c.number(2, "stun.att.length")
		c.take((n+3)/4*4, "stun.att.value")
	}
	return true
}

// ntp is RFC 5905's header of 48 bytes: version 1 to 4, a mode, a stratum within bounds.
func ntp(c *cursor) bool {
	if len(c.b) < 48 || c.b[0]>>3&7 < 1 || c.b[0]>>3&7 > 4 || c.b[0]&7 < 1 || c.b[0]&7 > 5 || c.b[1] > 16 || len(c.b) > 48+4+20 {
		return false
	}
	return c.fixed("ntp.", []sized{
		{"flags", 1}, {"stratum", 1}, {"ppoll", 1}, {"precision", 1}, {"rootdelay", 4}, {"rootdispersion", 4}, {"refid", 4},
		{"reftime", 8}, {"org", 8}, {"rec", 8}, {"xmt", 8}, {"mac", 24},
	})
}

// dnsTCP is a message behind its length (RFC 1035, 4.2.2).
func dnsTCP(c *cursor) bool {
	if len(c.b) < 14 || int(binary.BigEndian.Uint16(c.b)) > 4096 {
		return false
	}
	c.take(2, "dns.length")
	whole := c.b
	c.b = whole[2:]
	c.at, c.list = 0, nil
	ok := dns(c)
	for i := range c.list {
		c.list[i].From += 2
		c.list[i].To += 2
	}
	c.list, c.b, c.at = append([]Field{{From: 0, To: 2, Name: "dns.length"}}, c.list...), whole, c.at+2
	return ok
}

// dns is RFC 1035: counts and a first name that make sense.
func dns(c *cursor) bool {
	if len(c.b) < 12 {
		return false
	}
	var counts [4]int
	for i := range counts {
		if counts[i] = int(binary.BigEndian.Uint16(c.b[4+2*i:])); counts[i] > 64 {
			return false
		}
	}
	if opcode := c.b[2] >> 3 & 15; opcode > 5 || counts[0] > 4 || counts[0]+counts[1] == 0 || nameEnd(c.b, 12) < 0 {
		return false
	}
	c.fixed("dns.", []sized{{"id", 2}, {"flags", 2}, {"count.queries", 2}, {"count.answers", 2}, {"count.auth_rr", 2}, {"count.add_rr", 2}})
	name := func(label string) bool {
		end := nameEnd(c.b, c.at)
		if end < 0 {
			end = len(c.b)
		}
		c.take(end-c.at, label)
		return len(c.rest()) > 0
	}
	for range counts[0] {
		if !name("dns.qry.name") {
			return true
		}
		c.take(2, "dns.qry.type")
		c.take(2, "dns.qry.class")
	}
	for range counts[1] + counts[2] + counts[3] {
		if !name("dns.resp.name") {
			return true
		}
		c.take(2, "dns.resp.type")
		c.take(2, "dns.resp.class")
		c.take(4, "dns.resp.ttl")
		c.take(c.number(2, "dns.resp.len"), "dns.resp.data")
	}
	return true
}

// nameEnd is where a name of DNS ends that begins at an offset; the bytes' end where they end within it, -1 where it is none.
func nameEnd(b []byte, at int) int {
	for at < len(b) {
		switch n := int(b[at]); {
		case n == 0:
			return at + 1
		case n >= 0xc0:
			return min(at+2, len(b))
		case n > 63:
			return -1
		default:
			at += 1 + n
		}
	}
	return len(b)
}

// lines are a text protocol's: FTP, SMTP, IMAP, POP3, SIP and others begin with a line of printable characters.
func lines(c *cursor) bool {
	for n := 1; len(c.rest()) > 0 && n <= 64; n++ {
		text, _, ended := bytes.Cut(c.rest(), []byte{'\n'})
		if len(text) == 0 && !ended || bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' || r > '~' }) || !ended && len(text) < 4 {
			break
		}
		c.line(fmt.Sprintf("text line %d", n))
	}
	return c.at > 0
}
