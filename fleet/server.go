package fleet

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Serve starts a NATS server with JetStream in this process, for a fleet that has none of its own: listen is HOST:PORT (port 0: any), dir where it stores.
func (a *Access) Serve(listen, dir string) (*server.Server, error) {
	o, err := a.options(listen, dir)
	if err != nil {
		return nil, err
	}
	return start(o)
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

// start runs a server until it takes connections.
func start(o *server.Options) (*server.Server, error) {
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("the NATS server at %s:%d does not take connections: is the port free?", o.Host, o.Port)
	}
	return s, nil
}

// inside connects to a server in this process, without a socket.
func inside(s *server.Server, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append(opts, nats.InProcessServer(s))...)
}
