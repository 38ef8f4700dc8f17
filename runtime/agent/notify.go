package agent

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier tells systemd how things are, by the protocol of sd_notify(3): one
// datagram per message. Without systemd it does nothing.
type notifier struct{ path string }

func newNotifier() notifier { return notifier{os.Getenv("NOTIFY_SOCKET")} }

func (n notifier) send(state string) {
	if n.path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	conn.Write([]byte(state))
}

// Supervise tells systemd that the agent is ready, and keeps its watchdog quiet
// as long as every thread of the packet path is well, until ctx is done.
func (a *Agent) Supervise(ctx context.Context) {
	n := newNotifier()
	n.send("READY=1")
	defer n.send("STOPPING=1")
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		<-ctx.Done()
		return
	}
	t := time.NewTicker(time.Duration(usec) * time.Microsecond / 3)
	defer t.Stop()
	for {
		if a.Health().Status != "stalled" {
			n.send("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			// Draining is bounded by itself.
			n.send("WATCHDOG=1")
			return
		case <-t.C:
		}
	}
}
