package act

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// links asks for interfaces, on a socket of the network namespace that it was opened in.
type links struct {
	conn *netlink.Conn
	late *late
}

func openLinks() (*links, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	return &links{conn, new(late)}, nil
}

// there says ErrGone where no interface has the index.
func (l *links) there(index int) error {
	l.late.settle(l.conn)
	l.conn.SetDeadline(time.Now().Add(Patience))
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	_, err := l.conn.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request}, Data: b})
	l.late.note(err)
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: interface %d", ErrGone, index)
	}
	return err
}

// all is there for each of the interfaces.
func (l *links) all(indices map[string]int) error {
	for name, index := range indices {
		if err := l.there(index); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
