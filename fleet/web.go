package fleet

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nepcoc/internal/files"
)

// Files in the fleet's folder: who knows the one may look at the page and use it, who knows the other may look.
const (
	fileWebToken  = "web.token"
	fileViewToken = "view.token"
)

// WebTokens are what the page and the API ask for: Act lets halt, take back and approve, View look.
type WebTokens struct{ Act, View string }

// WebTokens reads them. The first call makes them, 256 random bits each; who writes another to a file ends the sessions under it.
func (a *Access) WebTokens() (t WebTokens, err error) {
	if t.Act, err = a.webToken(fileWebToken); err == nil {
		t.View, err = a.webToken(fileViewToken)
	}
	if err == nil && t.Act == t.View {
		err = fmt.Errorf("%s and %s are the same: remove one, and the next start makes another", a.file(fileWebToken), a.file(fileViewToken))
	}
	return t, err
}

func (a *Access) webToken(file string) (string, error) {
	name := a.file(file)
	text, err := files.All(name, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		var raw [32]byte
		rand.Read(raw[:])
		text = []byte(base64.RawURLEncoding.EncodeToString(raw[:]) + "\n")
		err = files.WriteNew(name, text, 0o600)
		if errors.Is(err, fs.ErrExist) { // another hub was first
			text, err = files.All(name, 4096)
		}
	}
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if len(token) < 20 {
		return "", fmt.Errorf("%s: a secret of length %d is too short: remove the file, and the next start makes one", name, len(token))
	}
	return token, nil
}

// Bounds of the page: how long a login holds, how often a page is told of changes at most and at least, and how many pages are told at once.
const (
	sessionTime = 7 * 24 * time.Hour
	pageSoonest = time.Second
	pageLatest  = 5 * time.Second
	maxStreams  = 200
	cookieName  = "nepcof"
)

//go:embed web.css
var webStyle []byte

//go:embed web.js
var webScript []byte

// web is the hub's page and API.
type web struct {
	h       *Hub
	tokens  WebTokens
	begun   time.Time
	soonest time.Duration
	streams atomic.Int64

	mu      sync.Mutex
	history map[string]*history
	leader  string // who leads; "": nobody, or not known
}

// ServeWeb answers at a listener with the hub's page and API, by TLS with the fleet's certificate, until ctx ends.
func (h *Hub) ServeWeb(ctx context.Context, l net.Listener) error {
	tokens, err := h.access.WebTokens()
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(h.access.file(fileCert), h.access.file(fileCertKey))
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler:           h.Handler(ctx, tokens),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(l, "", "") }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if s.Shutdown(end) != nil {
			s.Close()
		}
		return nil
	}
}

// Handler is the hub's page, its API, /metrics and /healthz. All but the last ask for a token: the page by a form, the others as a bearer's.
// What it remembers, for its plots, begins now, and is kept up until ctx ends.
func (h *Hub) Handler(ctx context.Context, tokens WebTokens) http.Handler {
	return h.newWeb(ctx, tokens, historyStep, pageSoonest)
}

func (h *Hub) newWeb(ctx context.Context, tokens WebTokens, step, soonest time.Duration) http.Handler {
	w := &web{h: h, tokens: tokens, begun: time.Now().UTC(), soonest: soonest, history: map[string]*history{}}
	go w.remember(ctx, step)
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(hubCollector{w})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", w.health)
	mux.HandleFunc("GET /style.css", asset("text/css; charset=utf-8", webStyle))
	mux.HandleFunc("GET /page.js", asset("text/javascript; charset=utf-8", webScript))
	mux.HandleFunc("GET /login", func(rw http.ResponseWriter, r *http.Request) {
		w.page(rw, r, http.StatusOK, "login", pageData{To: onward(r.FormValue("to"))})
	})
	mux.HandleFunc("POST /login", w.login)
	mux.HandleFunc("POST /logout", w.logout)
	page := func(pattern string, f http.HandlerFunc) { mux.Handle(pattern, w.known(f, true)) }
	api := func(pattern string, f http.HandlerFunc) { mux.Handle(pattern, w.known(f, false)) }
	page("GET /{$}", w.overview)
	page("GET /groups/{group}", w.group)
	page("GET /groups/{group}/{card}", w.card)
	page("POST /groups/{group}/{act}", w.acting(w.act))
	api("GET /events", func(rw http.ResponseWriter, r *http.Request) { w.events(ctx, rw, r) })
	api("GET /api/groups", func(rw http.ResponseWriter, r *http.Request) { answer(rw, w.look().groupsJSON()) })
	api("GET /api/cards", w.cardsJSON)
	api("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}).ServeHTTP)
	return guarded(mux)
}

// guarded adds what holds for each answer: nothing from elsewhere is loaded, nobody else's page has this one in a frame, and no other page's forms count.
func guarded(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		next.ServeHTTP(w, r)
	})
}

func asset(kind string, text []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Write(text)
	}
}

// same compares two secrets in a time that tells nothing of them.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return hmac.Equal(x[:], y[:])
}

// session is a cookie's value: until when it holds, under a token. No hub keeps sessions, and each with this folder takes them.
func session(token string, until int64) string {
	m := hmac.New(sha256.New, []byte(token))
	fmt.Fprintf(m, "session until %d", until)
	return fmt.Sprintf("%d.%s", until, base64.RawURLEncoding.EncodeToString(m.Sum(nil)))
}

// rank is what who asks may do.
type rank int

const (
	stranger rank = iota
	viewer
	actor
)

// by is the rank of who shows a secret: that of each token is made of it.
func (w *web) by(secret string, made func(token string) string) rank {
	who := stranger
	if same(secret, made(w.tokens.View)) {
		who = viewer
	}
	if same(secret, made(w.tokens.Act)) {
		who = actor
	}
	return who
}

// rank is that of who has logged in, or bears a token.
func (w *web) rank(r *http.Request, now time.Time) rank {
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return w.by(bearer, func(token string) string { return token })
	}
	c, err := r.Cookie(cookieName)
	if err != nil {
		return stranger
	}
	text, _, _ := strings.Cut(c.Value, ".")
	until, err := strconv.ParseInt(text, 10, 64)
	if err != nil || now.Unix() >= until {
		return stranger
	}
	return w.by(c.Value, func(token string) string { return session(token, until) })
}

// known lets nobody else in. People are shown the form.
func (w *web) known(next http.HandlerFunc, people bool) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case w.rank(r, time.Now()) != stranger:
			next(rw, r)
		case people && r.Method == http.MethodGet && r.Header.Get("Authorization") == "":
			address := "/login"
			if to := onward(r.URL.RequestURI()); to != "/" {
				address += "?" + url.Values{"to": {to}}.Encode()
			}
			http.Redirect(rw, r, address, http.StatusSeeOther)
		default:
			rw.Header().Set("WWW-Authenticate", `Bearer realm="nepcof"`)
			http.Error(rw, "a token of the fleet is needed: "+fileViewToken+" or "+fileWebToken+" in its folder", http.StatusUnauthorized)
		}
	})
}

// acting lets nobody who may only look.
func (w *web) acting(next http.HandlerFunc) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if w.rank(r, time.Now()) != actor {
			http.Error(rw, "this token lets look only: "+fileWebToken+" in the fleet's folder lets act", http.StatusForbidden)
			return
		}
		next(rw, r)
	}
}

// onward is where the page goes on to after a login: to one of its own pages, or the first where an address is anything else. Anybody may write the address
// of a login.
func onward(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || !strings.HasPrefix(u.Path, "/groups/") || path.Clean(u.Path) != u.Path || len(to) > maxOnward {
		return "/"
	}
	return (&url.URL{Path: u.Path, RawQuery: u.RawQuery}).String()
}

// maxOnward bounds such an address: names are of 63 characters at most.
const maxOnward = 1024

func (w *web) login(rw http.ResponseWriter, r *http.Request) {
	token := strings.TrimSpace(r.PostFormValue("token"))
	if w.by(token, func(token string) string { return token }) == stranger {
		w.h.logins.warn(w.h.o.Log, "login refused", "from", r.RemoteAddr)
		w.page(rw, r, http.StatusForbidden, "login", pageData{Problem: "That is not a token of this fleet.", To: onward(r.PostFormValue("to"))})
		return
	}
	until := time.Now().Add(sessionTime)
	http.SetCookie(rw, &http.Cookie{Name: cookieName, Value: session(token, until.Unix()), Path: "/", Expires: until, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode})
	http.Redirect(rw, r, onward(r.PostFormValue("to")), http.StatusSeeOther)
}

func (w *web) logout(rw http.ResponseWriter, r *http.Request) {
	http.SetCookie(rw, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode})
	http.Redirect(rw, r, "/login", http.StatusSeeOther)
}

// health is for who watches the hub: 200 while it hears the fleet's servers.
func (w *web) health(rw http.ResponseWriter, r *http.Request) {
	if why := w.h.deaf(); why != "" {
		http.Error(rw, why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(rw, "ok")
}

// deaf says why what a hub knows may be old; "": it isn't.
func (h *Hub) deaf() string {
	switch {
	case !h.nc.IsConnected():
		return "the hub has no connection to the fleet's servers"
	case !h.follows.Load():
		return "the hub has not read the fleet's state yet"
	}
	return ""
}

// pageData is what templates show.
type pageData struct {
	Title   string
	Back    string // address of the page above
	Problem string
	To      string // of a login: where it goes on to
	Inside  bool   // of who has logged in
	Acts    bool   // may do more than look
	View    view
	Group   *groupView
	Card    *cardView
	All     bool
}

func (w *web) page(rw http.ResponseWriter, r *http.Request, status int, name string, d pageData) {
	d.Acts = w.rank(r, time.Now()) == actor
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, d); err != nil {
		w.h.o.Log.Error("page", "name", name, "why", err)
		http.Error(rw, "the page can't be shown", http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.WriteHeader(status)
	rw.Write(b.Bytes())
}

func (w *web) overview(rw http.ResponseWriter, r *http.Request) {
	w.page(rw, r, http.StatusOK, "overview", pageData{Title: "Fleet", Inside: true, View: w.look()})
}

func (w *web) group(rw http.ResponseWriter, r *http.Request) {
	v := w.look()
	g := v.group(r.PathValue("group"))
	if g == nil {
		w.missing(rw, r, v, "There is no group of that name.")
		return
	}
	w.page(rw, r, http.StatusOK, "group", pageData{Title: g.Name, Back: "/", Inside: true, View: v, Group: g, All: r.FormValue("cards") == "all"})
}

func (w *web) card(rw http.ResponseWriter, r *http.Request) {
	v := w.look()
	g := v.group(r.PathValue("group"))
	if g != nil {
		for i := range g.Cards {
			if c := &g.Cards[i]; c.Card == r.PathValue("card") {
				w.page(rw, r, http.StatusOK, "card", pageData{Title: c.Card, Back: "/groups/" + url.PathEscape(g.Name), Inside: true, View: v, Group: g, Card: c})
				return
			}
		}
	}
	w.missing(rw, r, v, "There is no card of that name.")
}

func (w *web) missing(rw http.ResponseWriter, r *http.Request, v view, what string) {
	w.page(rw, r, http.StatusNotFound, "problem", pageData{Title: "Not there", Back: "/", Problem: what, Inside: true, View: v})
}

// act halts a rollout, takes it back or lets it go on: the one, and for the last the stage, that whoever asks was shown.
func (w *web) act(rw http.ResponseWriter, r *http.Request) {
	name, act := r.PathValue("group"), r.PathValue("act")
	if act != "halt" && act != "back" && act != "approve" {
		http.NotFound(rw, r)
		return
	}
	reason := clean(strings.TrimSpace(r.PostFormValue("reason")), 200)
	if reason == "" {
		reason = "by hand, on the page"
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	var cards map[string]map[string]Status
	var err error
	if act == "approve" {
		cards, err = w.h.Cards(ctx)
	}
	now := w.h.Now(ctx)
	if err == nil {
		_, err = w.h.change(ctx, name, func(g Group) (Group, error) {
			shown := g.Rollout
			if shown == nil || shown.ID != r.PostFormValue("rollout") || act == "approve" && (strconv.Itoa(shown.Stage) != r.PostFormValue("stage") || string(shown.State) != r.PostFormValue("state")) {
				return g, errors.New("the rollout has moved on since the page was shown: look again")
			}
			switch act {
			case "halt":
				return g.Halt(reason, now)
			case "back":
				return g.Back(reason, now)
			}
			return g.Approve(cards[name], now)
		})
	}
	if err != nil {
		if r.Header.Get("Authorization") != "" {
			http.Error(rw, err.Error(), http.StatusConflict)
			return
		}
		w.page(rw, r, http.StatusConflict, "problem", pageData{Title: name, Back: "/groups/" + url.PathEscape(name), Problem: err.Error(), Inside: true, View: w.look()})
		return
	}
	w.h.o.Log.Info("page", "group", name, "act", act, "from", r.RemoteAddr)
	http.Redirect(rw, r, "/groups/"+url.PathEscape(name), http.StatusSeeOther)
}

// events tells a page when to look again: after changes, and now and then, since silence must become visible, too.
func (w *web) events(ctx context.Context, rw http.ResponseWriter, r *http.Request) {
	if w.streams.Add(1) > maxStreams {
		w.streams.Add(-1)
		http.Error(rw, "too many pages look at this hub", http.StatusServiceUnavailable)
		return
	}
	defer w.streams.Add(-1)
	rw.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(rw)
	out.SetReadDeadline(time.Time{})
	seen, told := w.h.changes.Load(), time.Now()
	fmt.Fprint(rw, "retry: 2000\n\n")
	tick := time.NewTicker(w.soonest)
	defer tick.Stop()
	for out.Flush() == nil {
		select {
		case <-ctx.Done():
			return
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		// Of many cards one has always reported: their pages, which take longer to make, are looked at less often.
		pace := w.soonest + time.Duration(w.h.known())*time.Millisecond
		if n := w.h.changes.Load(); n != seen && time.Since(told) >= pace || time.Since(told) > pageLatest {
			seen, told = n, time.Now()
			out.SetWriteDeadline(told.Add(10 * time.Second))
			fmt.Fprintf(rw, "event: look\ndata: %d\n\n", n)
		}
	}
}

// known is how many cards were enrolled.
func (h *Hub) known() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, cards := range h.cards.groups {
		n += len(cards)
	}
	return n
}

// answer writes JSON.
func answer(rw http.ResponseWriter, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.Write(append(text, '\n'))
}
