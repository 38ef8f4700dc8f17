package explain

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// Messages of protocols, and the fields that are looked for in them.
var samples = []struct {
	name  string
	bytes []byte
	want  map[string]string // field: its bytes as text
}{
	{"HTTP request", []byte("GET /a HTTP/1.1\r\nHost: b.example\r\nUser-Agent: c\r\n\r\nbody"), map[string]string{
		"http.request.method": "GET ", "http.request.uri": "/a ", "http.request.version": "HTTP/1.1\r\n", "http.host": "Host: b.example\r\n", "http.file_data": "body"}},
	{"HTTP response", []byte("HTTP/1.0 404 Not Found\r\nServer: x\r\n"), map[string]string{"http.response.code": "404 ", "http.server": "Server: x\r\n"}},
	{"SIP, which is not HTTP", []byte("OPTIONS sip:a SIP/2.0\r\nVia: b\r\n"), map[string]string{"text line 1": "OPTIONS sip:a SIP/2.0\r\n", "text line 2": "Via: b\r\n"}},
	{"SSH", []byte("SSH-2.0-OpenSSH_9.2\r\n"), map[string]string{"ssh.protocol": "SSH-2.0-OpenSSH_9.2\r\n"}},
	{"SSH key exchange", unhex("0000001c 04 14" + strings.Repeat("aa", 16) + "00000002 6162 00000000 0000"), map[string]string{"ssh.message_code": "\x14", "ssh.kex_algorithms": "ab"}},
	{"TLS client hello", unhex("16 0301 0040 01 00003c 0303" + strings.Repeat("11", 32) + "00 0002 1301 01 00 0011 0000 000d 000b 00 0008 61 2e 65 78 2e 6f 72 67"), map[string]string{
		"tls.record.content_type": "\x16", "tls.handshake.type": "\x01", "tls.handshake.ciphersuites": "\x13\x01", "tls.handshake.extensions_server_name": "\x00\x0b\x00\x00\x08a.ex.org"}},
	{"DNS", unhex("1234 0100 0001 0000 0000 0000 03 777777 02 6578 00 0001 0001"), map[string]string{"dns.id": "\x12\x34", "dns.qry.name": "\x03www\x02ex\x00", "dns.qry.type": "\x00\x01"}},
	{"DNS over TCP", unhex("0018 1234 0100 0001 0000 0000 0000 03 777777 02 6578 00 0001 0001"), map[string]string{"dns.length": "\x00\x18", "dns.id": "\x12\x34", "dns.qry.class": "\x00\x01"}},
	{"STUN", unhex("0001 0008 2112a442" + strings.Repeat("bb", 12) + "8022 0004 61626364"), map[string]string{"stun.cookie": "\x21\x12\xa4\x42", "stun.att.value": "abcd"}},
	{"NTP", append([]byte{0x23, 2, 6, 0xec}, make([]byte, 44)...), map[string]string{"ntp.flags": "\x23", "ntp.stratum": "\x02"}},
	{"others", unhex("00ff00ff00ff00ff"), map[string]string{"payload": "\x00\xff\x00\xff\x00\xff\x00\xff"}},
}

func TestApplication(t *testing.T) {
	for _, s := range samples {
		got := map[string]string{}
		for _, f := range Application(s.bytes) {
			if _, ok := got[f.Name]; !ok {
				got[f.Name] = string(s.bytes[f.From:f.To])
			}
		}
		for name, want := range s.want {
			if got[name] != want {
				t.Errorf("%s: %s is %q, want %q; fields %v", s.name, name, got[name], want, got)
			}
		}
	}
}

// Of any bytes, each is in one field, in order.
func checkWhole(t *testing.T, b []byte) {
	t.Helper()
	at := 0
	for _, f := range Application(slices.Clone(b)) {
		if f.From != at || f.To <= at || f.Name == "" || f.Part != "payload" {
			t.Fatalf("%x: field %+v follows %d", b, f, at)
		}
		at = f.To
	}
	if at != len(b) {
		t.Fatalf("%x: %d of %d bytes are in fields", b, at, len(b))
	}
}

// Messages may be cut anywhere.
func TestApplicationCut(t *testing.T) {
	for _, s := range samples {
		for n := range len(s.bytes) + 1 {
			checkWhole(t, s.bytes[:n])
		}
	}
}

func FuzzApplication(f *testing.F) {
	for _, s := range samples {
		f.Add(s.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkWhole(t, b[:min(len(b), 4096)]) })
}
