package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"nepcoc/internal/files"
	"nepcoc/runtime/privilege"
)

// barred says it of an error of a file's where that is out of the sandbox's reach now.
func barred(name string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		if why := privilege.Barred(name); why != "" {
			return fmt.Errorf("%w: %s", err, why)
		}
	}
	return err
}

// Needs is what an agent with this configuration still does once its sources, its output and its listener are open: it reads bundles and keys again, appends to its
// output and begins it anew, writes state and kept flows, and tells systemd how things are. No capability is needed for that, but for actions. others are files that are read besides.
func (c *Config) Needs(others ...string) privilege.Needs {
	var n privilege.Needs
	file := func(what, name string, write bool) {
		if name != "" && !files.IsStdin(name) {
			n.Paths = append(n.Paths, privilege.Path{For: what, Name: name, Write: write})
		}
	}
	socket := func(what, name string) {
		n.Sockets = []int{unix.AF_UNIX}
		if !strings.HasPrefix(name, "@") {
			n.Paths = append(n.Paths, privilege.Path{For: what, Name: name, Socket: true})
		}
	}
	file("bundle", c.Bundle, false)
	for _, k := range c.TrustedKeys {
		file("trusted_keys", k, false)
	}
	file("key_list", c.KeyList, false)
	file("allow_rollback", c.AllowRollback, false)
	file("state", c.State, true)
	switch network, path := socketOf(c.Output.To); {
	case network != "":
		socket("output", path)
	case !files.IsStdout(path):
		file("output", path, true)
	}
	file("keep_unknown", c.Keep.To, true)
	for _, name := range others {
		file("pcap", name, false)
	}
	if name := os.Getenv("NOTIFY_SOCKET"); name != "" {
		socket("systemd", name)
	}
	if c.Actions.Acts() && c.Interface != "" {
		// Rules go over sockets that are open, but each message is asked for the right.
		n.Add(privilege.Needs{Capabilities: []int{unix.CAP_NET_ADMIN}, Calls: []string{"sendmsg", "recvmsg"}})
	}
	return n
}
