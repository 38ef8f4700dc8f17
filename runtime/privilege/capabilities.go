//go:build linux

package privilege

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capNames are capabilities(7), by number.
var capNames = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST",
	"NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
	"BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// CapabilityName is that of a capability's number, such as CAP_NET_RAW.
func CapabilityName(c int) string {
	if c >= 0 && c < len(capNames) {
		return "CAP_" + capNames[c]
	}
	return fmt.Sprintf("capability %d", c)
}

// CapabilityNames are those of a set, as /proc has it.
func CapabilityNames(set uint64) string {
	var all []int
	for c := range 64 {
		if set>>c&1 != 0 {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return list(all, CapabilityName)
}

// capset is what the system call reads: not on a stack, which moves.
var capset struct {
	header unix.CapUserHeader
	keep   [2]unix.CapUserData
}

// dropCapabilities keeps those that are needed, of those that the process has, in every thread.
func dropCapabilities(n *Needs) (says, lacks string, err error) {
	capset.header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	capset.keep = [2]unix.CapUserData{}
	keep := &capset.keep
	var had [2]unix.CapUserData
	if err := unix.Capget(&capset.header, &had[0]); err != nil {
		return "", "", fmt.Errorf("capget: %w", err)
	}
	var missing []int
	for _, c := range n.Capabilities {
		bit := uint32(1) << (c % 32)
		if had[c/32].Permitted&bit == 0 {
			missing = append(missing, c)
			continue
		}
		keep[c/32].Permitted |= bit
		keep[c/32].Effective |= bit
	}
	// The bounding set says what could ever come back; only who has SETPCAP can make it smaller.
	if had[0].Effective>>unix.CAP_SETPCAP&1 != 0 {
		for c := 0; ; c++ {
			set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
			if err != nil {
				break // the last one of this kernel was before
			}
			if set == 1 && !slices.Contains(n.Capabilities, c) {
				if err := everyThread("prctl PR_CAPBSET_DROP", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
					return "", "", err
				}
			}
		}
	}
	if err := everyThread("prctl PR_CAP_AMBIENT", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return "", "", err
	}
	capset.header.Pid = 0 // each thread's own
	if err := everyThread("capset", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&capset.header)), uintptr(unsafe.Pointer(&capset.keep[0])), 0); err != nil {
		return "", "", err
	}
	if len(missing) > 0 {
		lacks = "this process never had " + list(missing, CapabilityName) + ", which its configuration needs"
	}
	return CapabilityNames(uint64(keep[0].Permitted) | uint64(keep[1].Permitted)<<32), lacks, nil
}
