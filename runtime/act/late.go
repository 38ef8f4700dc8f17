package act

import (
	"errors"
	"os"
	"time"

	"github.com/mdlayher/netlink"
)

// late says that a socket may still bring an answer that was given up: it would be taken for that to the next question.
type late bool

func (l *late) note(err error) { *l = *l || late(errors.Is(err, os.ErrDeadlineExceeded)) }

// settle throws such answers away.
func (l *late) settle(c *netlink.Conn) {
	if !*l {
		return
	}
	for range 1000 {
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := c.Receive(); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	*l = false
	c.SetDeadline(time.Now().Add(Patience))
}
