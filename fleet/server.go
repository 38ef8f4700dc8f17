package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"nepcoc/internal/files"
)

// Serve starts a NATS server with JetStream in this process, for a fleet that has none of its own: listen is HOST:PORT (port 0: any), dir where it stores.
// Broken is told where it can't write there: what it stores then is lost until it starts again.
func (a *Access) Serve(listen, dir string, log *slog.Logger, broken func(error)) (*server.Server, error) {
	o, err := a.options(listen, dir)
	if err != nil {
		return nil, err
	}
	return startTelling(o, log, func(why string) {
		broken(fmt.Errorf("%s: the NATS server can't write there, and takes nothing more until it starts again: %s: free some room, then start it (systemd does)", dir, why))
	})
}

// accountsEvery is how often a server looks whether accounts changed.
var accountsEvery = 2 * time.Second // changed by tests only

// KeepAccounts has a server of Serve take up accounts that nepcof revoke changes, until ctx ends: who was revoked is cut off.
func (a *Access) KeepAccounts(ctx context.Context, s *server.Server, log *slog.Logger) {
	known := map[string]string{}
	for ctx.Err() == nil {
		for key, name := range a.accountFiles() {
			text, err := files.All(a.file(name), 1<<20)
			if err != nil || known[key] == string(text) {
				continue // a file that can't be read changes nothing
			}
			if known[key] != "" {
				c, err := jwt.DecodeAccountClaims(string(text))
				var account *server.Account
				if err == nil && c.Subject != key {
					err = errors.New("is of another account")
				}
				if err == nil {
					err = s.AccountResolver().Store(key, string(text))
				}
				if err == nil {
					account, err = s.LookupAccount(key)
				}
				if err != nil {
					log.Warn("account", "file", a.file(name), "why", err)
				} else {
					s.UpdateAccountClaims(account, c)
					log.Info("account", "file", a.file(name), "revoked", len(c.Revocations))
				}
			}
			known[key] = string(text)
		}
		pause(ctx, accountsEvery)
	}
}

// options are of a server that knows the fleet's accounts.
func (a *Access) options(listen, dir string) (*server.Options, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("%q: HOST:PORT: %w", listen, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q: HOST:PORT: %w", listen, err)
	}
	o := &server.Options{ServerName: "nepcof", Host: host, Port: int(port), NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir}
	if port == 0 {
		o.Port = server.RANDOM_PORT
	}
	o.TrustedOperators = append(o.TrustedOperators, a.operator)
	o.SystemAccount = a.system
	if o.AccountResolver, err = a.resolver(); err != nil {
		return nil, err
	}
	o.TLS = true
	o.TLSTimeout = 5
	o.TLSConfig, err = a.serverTLS()
	return o, err
}

// startTime is how long a server may take to be there: it reads what it stored.
const startTime = 10 * time.Second

// start runs a server, which takes connections when it returns.
func start(o *server.Options) (*server.Server, error) {
	return startTelling(o, slog.New(slog.DiscardHandler), func(string) {})
}

// startTelling is start for a server that tells a log what is wrong, and broken where it can't write what it stores.
func startTelling(o *server.Options, log *slog.Logger, broken func(why string)) (*server.Server, error) {
	own, again := o.JetStreamMaxStore == 0, o.Clone() // how much is stored is up to the server, which changes its options
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	l := &serverLog{fatal: make(chan error, 1), log: log, broken: broken}
	s.SetLoggerV2(l, false, false, false)
	go s.Start()
	ready := make(chan bool, 1)
	go func() { ready <- s.ReadyForConnections(startTime) }()
	select {
	case err = <-l.fatal:
	case ok := <-ready:
		if ok && o.JetStream && own {
			// What streams may become was promised when the disk had more room. With less, a server that counts on its own changes nothing any more, not even to smaller.
			if _, promised, err := s.JetStreamReservedResources(); err == nil && promised+spare > s.JetStreamConfig().MaxStore {
				log.Warn("the disk has less room than what is stored may come to", "folder", o.StoreDir, "bytes", promised)
				s.Shutdown()
				s.WaitForShutdown()
				again.JetStreamMaxStore = promised + spare
				return startTelling(again, log, broken)
			}
		}
		if ok {
			return s, nil
		}
		err = fmt.Errorf("it takes no connections after %v", startTime)
	}
	s.Shutdown()
	return nil, fmt.Errorf("the NATS server at %s that stores in %s does not start: %w", net.JoinHostPort(o.Host, strconv.Itoa(o.Port)), o.StoreDir, err)
}

// spare is what a server's streams may come to beyond what was promised: those without a bound count as next to nothing.
const spare = 1 << 20

// serverLog takes from a server's log what is said nowhere else: why it can't start, and that a stream could not be written. That one, as of a full disk, takes
// nothing more until the server starts anew, and doesn't answer.
type serverLog struct {
	fatal  chan error
	log    *slog.Logger
	broken func(why string)
	said   seldom
}

// writeError is in what NATS says of a stream that could not be written.
const writeError = "Critical write error"

// Fatalf implements server.Logger.
func (l *serverLog) Fatalf(format string, args ...any) {
	select {
	case l.fatal <- fmt.Errorf(format, args...):
	default:
	}
}

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.said.warn(l.log, "NATS server", "why", text)
	if _, why, ok := strings.Cut(text, writeError); ok {
		l.broken(strings.TrimPrefix(why, ": "))
	}
}

func (*serverLog) Noticef(string, ...any) {}
func (*serverLog) Warnf(string, ...any)   {}
func (*serverLog) Debugf(string, ...any)  {}
func (*serverLog) Tracef(string, ...any)  {}

// inside connects to a server in this process, without a socket.
func inside(s *server.Server, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append(opts, nats.InProcessServer(s), nats.MaxReconnects(-1), nats.ReconnectWait(time.Second/4))...)
}
