package verdict

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"

	"nepcoc/runtime/flow"
)

// AppendCommunityID appends the flow's Community ID, version 1: the
// same text for both directions, and the same that Zeek, Suricata and Wireshark
// give the flow with the same seed (0 where nothing is set). The definition: "1:" and the base64 of the SHA-1 over seed (2
// bytes), the smaller end's address, the other's, protocol, a zero byte, the
// ports in the addresses' order, all big endian.
func AppendCommunityID(b []byte, seed uint16, k flow.Key) []byte {
	k, _ = k.Canonical()
	var in [40]byte
	binary.BigEndian.PutUint16(in[:], seed)
	n, size := 2, 4
	if k.V6 {
		size = 16
	}
	n += copy(in[n:], k.Src[:size])
	n += copy(in[n:], k.Dst[:size])
	in[n] = k.Proto
	n += 2
	binary.BigEndian.PutUint16(in[n:], k.SrcPort)
	binary.BigEndian.PutUint16(in[n+2:], k.DstPort)
	sum := sha1.Sum(in[:n+4])
	b = append(b, "1:"...)
	return base64.StdEncoding.AppendEncode(b, sum[:])
}

// CommunityID is AppendCommunityID as a string, with seed 0.
func CommunityID(k flow.Key) string { return string(AppendCommunityID(nil, 0, k)) }
