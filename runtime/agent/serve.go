package agent

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /metrics and /healthz.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h := a.Health()
		w.Header().Set("Content-Type", "application/json")
		if h.Status != "ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(h)
	})
	return mux
}

// Bounds of the server: whoever can reach it can't take the descriptors that the agent needs.
const (
	maxConns = 32
	// A connection that says nothing is closed after idleTime, one that is slow to ask or to listen after serveTime.
	idleTime  = 30 * time.Second
	serveTime = 10 * time.Second
	maxHeader = 8 << 10
)

// Server serves Handler, within bounds: of time for each connection, and, with a listener of Listen, of their number.
func (a *Agent) Server() *http.Server {
	return &http.Server{
		Handler: a.Handler(), ReadTimeout: serveTime, WriteTimeout: serveTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
	}
}

// Listen opens the address of metrics and health: an empty host is the
// loopback, so that nothing is shown to a network that was not named. It takes
// 32 connections at once.
func Listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	// Plain TCP: of the other kind (MPTCP), landlock keeps no socket from connecting elsewhere.
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	return &limited{l, make(chan struct{}, maxConns), make(chan struct{}), sync.Once{}}, nil
}

// limited is a listener with so many connections at once at most as room holds. Others wait
// in the system's queue.
type limited struct {
	net.Listener
	room   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
