//go:build linux

package testcard

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"nepcoc/runtime/capture"
)

// Cable is what a port of the card is connected to: Ethernet frames go to the card by Send and come from it by Listen.
//
// A datagram between two sockets is a frame. Taps would need root, and the kernel here would talk on them.
type Cable struct {
	card, test string // the paths of the sockets

	mu      sync.Mutex
	conn    *net.UnixConn
	receive func([]byte)
}

func newCable(path string) *Cable { return &Cable{card: path + ".card", test: path + ".test"} }

// connect connects to the emulator, which may not have come so far.
func (c *Cable) connect() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return nil
	}
	os.Remove(c.test)
	conn, err := net.DialUnix("unixgram", &net.UnixAddr{Name: c.test, Net: "unixgram"}, &net.UnixAddr{Name: c.card, Net: "unixgram"})
	if err != nil {
		return err
	}
	c.conn = conn
	// Always read: the card's queue would fill up and stand still.
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			c.mu.Lock()
			f := c.receive
			c.mu.Unlock()
			if f != nil {
				f(b[:n])
			}
		}
	}()
	return nil
}

// sendTimeout is how long a card may take none of what is sent to it.
const sendTimeout = time.Minute

// Send sends a frame to the card, without a frame check sequence. It waits while the card has no room for one: none is lost on the cable.
func (c *Cable) Send(frame []byte) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return errors.New("the card is off")
	}
	conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, err := conn.Write(frame)
	return err
}

// Replay sends the frames of a capture at speed times the pace that they were captured at; 0: as fast as the card takes them.
// Of frames that the capture cut, what it has is sent.
func (c *Cable) Replay(ctx context.Context, capturePath string, speed float64) error {
	file, err := capture.Open(capturePath)
	if err != nil {
		return err
	}
	defer file.Close()
	var src capture.Source = file
	wait := func(time.Duration) {}
	if speed > 0 {
		r := capture.NewReplay(file, speed)
		src, wait = r, func(d time.Duration) { r.Wait(d) }
	}
	var f capture.Frame
	for ctx.Err() == nil {
		switch err := src.Next(&f); {
		case err == capture.ErrEmpty:
			wait(100 * time.Millisecond)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		default:
			if err := c.Send(f.Data); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// Listen has f called with each frame that the card sends from now on, one after another; f must not keep it. nil: they are dropped.
func (c *Cable) Listen(f func(frame []byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.receive = f
}

func (c *Cable) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}
