//go:build linux

package afpacket

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nepcoc/runtime/capture"
)

// What the kernel merged (GRO, LRO) or has yet to cut (segmentation offload of this
// machine's own packets) comes as one packet; a virtio_net_hdr before it tells of
// what size its parts were.
//
// The fields of that header are in the machine's own byte order.
const (
	vnetBytes = 10 // struct virtio_net_hdr
	vnetFlags = 0
	vnetType  = 1
	vnetSize  = 4
)

// maxMerged is how much is taken of a packet that is to be split: some of the
// first that it was made of whole. Of all of it, 64 kB would be copied for each.
const maxMerged = 16 << 10

// linkBytes is what a frame may have in front of the interface's MTU.
const linkBytes = 14 + 2*4

// askForMerged asks for the header, and for the whole of packets that are larger
// than a frame of the ring.
func (r *Ring) askForMerged() error {
	if !headersKnown() {
		return nil
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return os.NewSyscallError("setsockopt PACKET_VNET_HDR", err)
	}
	r.vnet = true
	if r.opt.Retire != 0 {
		return nil // blocks have room
	}
	r.copied = make([]byte, vnetBytes+maxMerged)
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_COPY_THRESH, 1); err != nil {
		return os.NewSyscallError("setsockopt PACKET_COPY_THRESH", err)
	}
	// Of as many as this holds; beyond, the frame's part is what there is. More
	// than the system's bound needs CAP_NET_ADMIN.
	const room = 16 << 20
	if unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		return os.NewSyscallError("setsockopt SO_RCVBUF", unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room))
	}
	return nil
}

// headersKnown tells whether the kernel has the header for packets of every kind.
// Before Linux 6.2 it had none for datagrams that were merged, and dropped them
// where it was asked for one.
func headersKnown() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	major, rest, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	return a > 6 || a == 6 && b >= 2
}

// header reads the virtio_net_hdr of the packet that is f.
func (r *Ring) header(f *capture.Frame) {
	h := r.slot.head
	// Of the status word's own flags for checksums, the one for a right sum was
	// in some kernels also set where the card had a sum that nobody had looked at.
	if h[vnetFlags]&(unix.VIRTIO_NET_HDR_F_NEEDS_CSUM|unix.VIRTIO_NET_HDR_F_DATA_VALID) != 0 {
		f.Trust = capture.TrustChecked
	}
	if r.slot.status&unix.TP_STATUS_COPY != 0 {
		// In the order of the frames that say so.
		if n, _, err := unix.Recvfrom(r.fd, r.copied, unix.MSG_DONTWAIT); err == nil && n > vnetBytes+len(f.Data) {
			f.Data = r.copied[vnetBytes:n:n]
		}
	}
	kind := h[vnetType] &^ unix.VIRTIO_NET_HDR_GSO_ECN
	if kind == unix.VIRTIO_NET_HDR_GSO_NONE || kind == unix.VIRTIO_NET_HDR_GSO_UDP {
		return // the latter is one datagram, yet to be cut into fragments
	}
	size := int(binary.NativeEndian.Uint16(h[vnetSize:]))
	if !r.split.Split(f, size) {
		r.unsplit.Add(1)
		return
	}
	r.merged.Add(1)
}
