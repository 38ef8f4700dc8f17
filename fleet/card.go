package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"nepcoc/internal/files"
)

// Files of a card's folder.
const (
	fileCard      = "card.json"
	fileCardCreds = "card.creds"
	fileState     = "state.json"
	dirLines      = "lines"
)

// Runner is the agent beside a card: nepcod, or what tests put in its place.
type Runner interface {
	// Check says why the agent would not run the bundle in a file; asked before the file is put in its place. Agent may be asked meanwhile.
	// An error of Check or Place that is a fault is none of the bundle's.
	Check(ctx context.Context, file string) error
	// Place puts the bundle in its place, with the signed reason to go back to it, if there is one. What Agent tells as Refused afterwards is of this bundle.
	Place(ctx context.Context, file, back string) error
	// Agent is how the agent is now.
	Agent(ctx context.Context) Agent
}

// cardFile is what a card knows of its fleet since its enrolment.
type cardFile struct {
	Version int    `json:"version"`
	Group   string `json:"group"`
	Card    string `json:"card"`
	URL     string `json:"url"`
	CA      string `json:"ca"`
	Seal    string `json:"seal"`
}

// cardState is what a card must not forget: no order with a lower number is taken up.
type cardState struct {
	Version int   `json:"version"`
	Order   Order `json:"order"`
	// Placed is the file that was last put in the agent's place; "": none by a card, or none that is known to be there and good.
	Placed string `json:"placed,omitempty"`
	// Refused is why the order was refused: it is not tried again.
	Refused string `json:"refused,omitempty"`
}

// Enrol uses a token: the card makes its own key, of which only the public half leaves, and dir then holds what Card needs.
func Enrol(ctx context.Context, dir string, t *Token) error {
	if t.Version > version {
		return fmt.Errorf("the token is of a newer nepcof (version %d)", t.Version)
	}
	if err := errors.Join(CheckName("group", t.Group), CheckName("card", t.Card)); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, fileCardCreds)); err == nil {
		return fmt.Errorf("%s: this card is enrolled already; remove the folder to enrol it anew", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	authorities, err := pool([]byte(t.CA), "token")
	if err != nil {
		return err
	}
	nc, err := dial(t.URL, nats.UserCredentialBytes([]byte(t.Creds)), nats.CustomInboxPrefix(inboxPrefix+"enrol."+t.ID), secure(authorities))
	if err != nil {
		return fmt.Errorf("%w: is the hub there, and the token less than %v old?", err, tokenLife)
	}
	defer nc.Close()
	key, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	request, err := json.Marshal(enrolment{Public: public(key)})
	if err != nil {
		return err
	}
	m, err := nc.RequestWithContext(ctx, subjectEnrol+t.ID, request)
	for try := 0; errors.Is(err, nats.ErrNoResponders) && try < 40 && ctx.Err() == nil; try++ { // a hub may be about to come
		pause(ctx, time.Second/4)
		m, err = nc.RequestWithContext(ctx, subjectEnrol+t.ID, request)
	}
	if err != nil {
		return fmt.Errorf("%s: no hub answers the enrolment: %w", t.URL, err)
	}
	var e enrolment
	if err := json.Unmarshal(m.Data, &e); err != nil {
		return err
	}
	if e.Error != "" {
		return errors.New(e.Error)
	}
	creds, err := credsOf(e.JWT, key)
	if err != nil {
		return err
	}
	about, err := json.MarshalIndent(cardFile{version, t.Group, t.Card, t.URL, t.CA, t.Seal}, "", "  ")
	if err != nil {
		return err
	}
	// The credentials come last: without them the card is not enrolled, whatever a crash left.
	os.Remove(filepath.Join(dir, fileCard))
	if err := files.WriteNew(filepath.Join(dir, fileCard), append(about, '\n'), 0o600); err != nil {
		return err
	}
	return files.WriteNew(filepath.Join(dir, fileCardCreds), creds, 0o600)
}

func secure(authorities *x509.CertPool) nats.Option {
	return nats.Secure(&tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS13})
}

// CardOptions are of one card.
type CardOptions struct {
	Dir    string
	Runner Runner
	// Report is how often a card reports at least, Poll how often it looks for its order where nothing told of one.
	Report, Poll time.Duration
	Log          *slog.Logger
	// Lines is what the card keeps of the agent's lines; nil: nothing.
	Lines *Store
}

// Card is one card of a fleet.
type Card struct {
	cardFile
	o        CardOptions
	key      nkeys.KeyPair
	nc       *nats.Conn
	state    cardState
	now      Status
	told     time.Time // when it reported last
	refusals seldom
	failed   bool // Refused is for a fault: the order is tried again
	wake     chan struct{}
	// orders are those that came and weren't looked at yet.
	orders chan []byte
}

// OpenCard opens an enrolled card. The servers may be away: it comes to them when they are there.
func OpenCard(o CardOptions) (*Card, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Report == 0 {
		o.Report = 10 * time.Second
	}
	if o.Poll == 0 {
		o.Poll = time.Minute
	}
	c := &Card{o: o, wake: make(chan struct{}, 1), orders: make(chan []byte, 16)}
	text, err := files.All(filepath.Join(o.Dir, fileCard), 1<<20)
	if err != nil {
		return nil, fmt.Errorf("%w: this card is not enrolled: nepcof card --enrol TOKEN", err)
	}
	err = json.Unmarshal(text, &c.cardFile)
	if err == nil && c.Version > version {
		err = errors.New("written by a newer nepcof: bring this one up to date")
	}
	if err != nil {
		return nil, c.damaged(fileCard, err)
	}
	creds, err := files.All(filepath.Join(o.Dir, fileCardCreds), 1<<20)
	if err != nil {
		return nil, c.damaged(fileCardCreds, err)
	}
	if c.key, err = nkeys.ParseDecoratedUserNKey(creds); err != nil {
		return nil, c.damaged(fileCardCreds, err)
	}
	if err := c.recall(); err != nil {
		return nil, err
	}
	authorities, err := pool([]byte(c.CA), fileCard)
	if err != nil {
		return nil, err
	}
	own := key(c.Group, c.cardFile.Card)
	c.nc, err = dial(c.URL, nats.Name("card "+own), nats.UserCredentialBytes(creds), nats.CustomInboxPrefix(inboxPrefix+own), secure(authorities),
		Lasting(c.o.Log), nats.RetryOnFailedConnect(true), nats.ReconnectHandler(func(*nats.Conn) { c.rouse() }), nats.ConnectHandler(func(*nats.Conn) { c.rouse() }))
	if err != nil {
		return nil, err
	}
	c.now = Status{Version: version, Group: c.Group, Card: c.cardFile.Card, Phase: Idle, Order: c.state.Order.Number, Wanted: c.state.Order.Artifact.File}
	switch {
	case c.state.Refused != "":
		c.now.Phase, c.now.Reason = Refused, c.state.Refused
	case c.now.Order != 0:
		c.now.Phase = Fetching // whether it was placed isn't known: what the agent runs already isn't fetched again
	}
	return c, nil
}

// Name is the card's, in its group.
func (c *Card) Name() string { return c.cardFile.Card }

func (c *Card) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// damaged says what there is to do about a file of the card's folder.
func (c *Card) damaged(name string, err error) error {
	return fmt.Errorf("%s: %w; bring it back or, if it is lost, remove %s and enrol the card anew", filepath.Join(c.o.Dir, name), files.Reason(err), c.o.Dir)
}

// recall reads what the card must not forget.
func (c *Card) recall() error {
	file := filepath.Join(c.o.Dir, fileState)
	text, err := files.All(file, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &c.state)
	}
	if err == nil && c.state.Version > version {
		err = errors.New("written by a newer nepcof: bring this one up to date")
	}
	if err != nil {
		return c.damaged(fileState, fmt.Errorf("%w: without it older orders would be taken up", err))
	}
	return nil
}

// remember writes it, before the order is followed.
func (c *Card) remember(o Order) error {
	c.state.Version, c.state.Order, c.state.Refused = version, o, ""
	return c.keep()
}

func (c *Card) keep() error {
	text, err := json.Marshal(c.state)
	if err != nil {
		return err
	}
	return files.Write(filepath.Join(c.o.Dir, fileState), append(text, '\n'))
}

// Run follows orders, reports, and sends lines until ctx ends.
func (c *Card) Run(ctx context.Context) error {
	defer c.nc.Close()
	sub, err := c.nc.Subscribe(subjectOrders+key(c.Group, c.cardFile.Card), func(m *nats.Msg) {
		select {
		case c.orders <- m.Data:
		default: // the next look finds the last one
			c.rouse()
		}
	})
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	if c.o.Lines != nil {
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			c.forward(ctx)
		}()
		defer func() { <-stopped }()
	}
	report, poll := time.NewTicker(c.o.Report), time.NewTicker(c.o.Poll)
	defer report.Stop()
	defer poll.Stop()
	settle := time.NewTimer(0)
	defer settle.Stop()
	c.look(ctx)
	for {
		c.report(ctx)
		if c.now.Phase == Placed || c.now.Phase == Fetching {
			settle.Reset(min(time.Second, c.o.Report))
		}
		select {
		case <-ctx.Done():
			return nil
		case data := <-c.orders:
			c.take(ctx, data)
		case <-poll.C:
			c.look(ctx)
		case <-c.wake:
			c.look(ctx)
		case <-report.C:
		case <-settle.C:
			if c.now.Phase == Fetching {
				c.follow(ctx)
			}
		}
	}
}

// get asks the servers for the last message on a subject of a stream.
func (c *Card) get(ctx context.Context, stream, subject string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, directGet+stream+"."+subject, nil)
	if err != nil {
		return nil, err
	}
	if status := m.Header.Get("Status"); status != "" {
		if status == "404" {
			return nil, fs.ErrNotExist
		}
		return nil, fmt.Errorf("%s: %s", status, m.Header.Get("Description"))
	}
	return m.Data, nil
}

// look asks for the card's order.
func (c *Card) look(ctx context.Context) {
	data, err := c.get(ctx, "KV_"+bucketOrders, subjectOrders+key(c.Group, c.cardFile.Card))
	switch {
	case err == nil:
		c.take(ctx, data)
	case !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil:
		c.o.Log.Debug("no order could be read", "why", err)
	}
}

// take follows an order, if it is the hub's, this card's, and newer than the last one.
func (c *Card) take(ctx context.Context, data []byte) {
	if len(data) == 0 {
		return // it was deleted, with the card's credentials
	}
	var o Order
	err := unseal(data, c.Seal, &o)
	switch {
	case err != nil:
	case o.Version > version:
		err = errors.New("the order is of a newer nepcof: bring this one up to date")
	case o.Group != c.Group || o.Card != c.cardFile.Card:
		err = fmt.Errorf("the order is for card %s of group %s", o.Card, o.Group)
	case o.Number < c.state.Order.Number, o.Number == c.state.Order.Number && o != c.state.Order:
		err = fmt.Errorf("the order has number %d, and %d was taken up before", o.Number, c.state.Order.Number)
	default:
		err = o.Artifact.check()
	}
	if err != nil {
		c.refusals.warn(c.o.Log, "order refused", "why", err)
		return
	}
	if o == c.state.Order && c.now.Phase != Idle && c.now.Phase != Fetching && !c.failed {
		return
	}
	if o != c.state.Order {
		before := c.state
		if err := c.remember(o); err != nil {
			c.state = before // it is taken up when it is seen again
			c.now.Order, c.now.Wanted = o.Number, o.Artifact.File
			c.fail(fmt.Errorf("the order can't be remembered: %w", err))
			return
		}
		c.o.Log.Info("order", "number", o.Number, "bundle", o.Artifact.String())
	}
	if !c.failed || c.now.Order != o.Number { // of what is tried again the reason stays until it is done
		c.now.Reason = ""
	}
	c.now.Order, c.now.Wanted, c.now.Phase = o.Number, o.Artifact.File, Fetching
	c.follow(ctx)
}

// errAway is where the servers don't give what they should have: that is no reason to refuse a bundle.
var errAway = errors.New("not from the servers yet")

// follow fetches and places what was ordered. Where the servers are away, the card stays with Fetching, and it is tried again.
func (c *Card) follow(ctx context.Context) {
	c.failed = false
	err := c.fetch(ctx, c.state.Order.Artifact)
	switch {
	case err == nil:
		c.now.Phase, c.now.Reason = Placed, ""
	case errors.Is(err, errAway):
		c.now.Reason = err.Error()
	case ctx.Err() != nil:
	case errors.As(err, new(*fault)):
		c.fail(err)
	default:
		c.refuse(err)
	}
}

// fault is what went wrong on the card itself: a full disk, a check that was killed. It says nothing about the bundle.
type fault struct{ error }

func (f *fault) Unwrap() error { return f.error }

// faulty is an error, if any, as a fault.
func faulty(err error) error {
	if err == nil {
		return nil
	}
	return &fault{err}
}

// fail reports that the order can't be followed now, so that a rollout doesn't wait for this card; it is tried again with each look.
func (c *Card) fail(err error) {
	if c.now.Reason != err.Error() {
		c.o.Log.Warn("order can't be followed yet", "why", err)
	}
	c.now.Phase, c.now.Reason, c.failed = Refused, err.Error(), true
}

// meanwhile does what may take minutes, and reports while it does: a card that is at work is not silent.
func (c *Card) meanwhile(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(c.o.Report)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			c.report(ctx)
		}
	}
}

func (c *Card) refuse(err error) {
	c.o.Log.Warn("bundle refused", "why", err)
	c.now.Phase, c.now.Reason = Refused, err.Error()
	c.state.Refused = err.Error()
	if c.state.Placed == c.state.Order.Artifact.File {
		c.state.Placed = ""
	}
	if err := c.keep(); err != nil {
		c.o.Log.Warn("state", "why", err)
	}
}

// fetchTries is how often a chunk is asked for before the card looks for another order: a server may be lost meanwhile.
const fetchTries = 3

// fetch reads a bundle, holds it to its SHA-256 and to the agent, and puts it in place.
func (c *Card) fetch(ctx context.Context, a Artifact) error {
	// A digest doesn't cover the signature: what runs under another one is no proof that this file may.
	if c.state.Placed == a.File && c.o.Runner.Agent(ctx).Digest == a.Digest {
		return nil // it runs already, and no other lies in its place
	}
	file, err := c.download(ctx, a)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	// The agent's own judgement; with a reason to go back it is Place that asks for it.
	if a.Back == "" {
		if err := c.meanwhile(ctx, func() error { return c.o.Runner.Check(ctx, file) }); err != nil {
			return err
		}
	}
	// Remembered before and after: what isn't known to be in place after a crash is placed again.
	c.state.Placed = ""
	if err := c.keep(); err != nil {
		return faulty(err)
	}
	if err := c.meanwhile(ctx, func() error { return c.o.Runner.Place(ctx, file, a.Back) }); err != nil {
		return err
	}
	c.state.Placed = a.File
	return faulty(c.keep())
}

// download brings an ordered bundle into the card's folder, chunk by chunk, and holds it to its SHA-256. What an attempt before has left of it is kept,
// so that a link that is lost, or another order, costs one chunk; what is left of other bundles goes.
func (c *Card) download(ctx context.Context, a Artifact) (_ string, err error) {
	name := filepath.Join(c.o.Dir, "ordered-"+a.File+".nepco")
	old, err := filepath.Glob(filepath.Join(c.o.Dir, "ordered-*.nepco"))
	if err != nil {
		return "", err
	}
	for _, other := range old {
		if other != name {
			os.Remove(other)
		}
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", faulty(err)
	}
	defer func() {
		f.Close()
		if err != nil && !errors.Is(err, errAway) {
			os.Remove(name)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return "", faulty(err)
	}
	kept := min(info.Size(), a.Size) / chunkSize
	sum := sha256.New()
	if err = f.Truncate(kept * chunkSize); err == nil {
		_, err = io.Copy(sum, f)
	}
	if err != nil {
		return "", faulty(err)
	}
	for i := int(kept); i < a.chunks(); i++ {
		if len(c.orders) > 0 {
			return "", fmt.Errorf("chunk %d of %d of the bundle: %w: another order came", i+1, a.chunks(), errAway)
		}
		var part []byte
		for try := range fetchTries {
			if part, err = c.get(ctx, streamBundles, chunkSubject(c.Group, a, i)); err == nil || ctx.Err() != nil {
				break
			}
			pause(ctx, time.Second<<try/4)
		}
		if err != nil {
			return "", fmt.Errorf("chunk %d of %d of the bundle: %w: %w", i+1, a.chunks(), errAway, err)
		}
		if time.Since(c.told) > c.o.Report {
			c.report(ctx)
		}
		sum.Write(part)
		if _, err = f.Write(part); err != nil {
			return "", faulty(err)
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) == a.File {
		return name, nil
	}
	if kept > 0 { // a crash may have left what was never written
		os.Remove(name)
		return "", fmt.Errorf("%w: what was there of the bundle before is not of it (SHA-256)", errAway)
	}
	return "", errors.New("what the servers gave is not the file that was ordered (SHA-256)")
}

// after is now or, where a clock was set back, a moment after what was told before: what is older isn't believed.
func after(told, now time.Time) time.Time {
	if now.After(told) {
		return now
	}
	return told.Add(1)
}

// report tells how the card is.
func (c *Card) report(ctx context.Context) {
	s := &c.now
	s.At, s.Agent = after(s.At, time.Now().UTC()), c.o.Runner.Agent(ctx).fewer()
	a := c.state.Order.Artifact
	switch {
	case s.Phase == Placed && s.Agent.Digest == a.Digest:
		s.Phase = Running
	case s.Phase == Placed && s.Agent.Refused != "":
		c.refuse(errors.New(s.Agent.Refused))
	case s.Phase == Running && s.Agent.Digest != "" && s.Agent.Digest != a.Digest:
		c.refuse(fmt.Errorf("the agent went back to %.12s: %s", s.Agent.Digest, s.Agent.Refused))
	}
	if c.o.Lines != nil {
		s.Lines = c.o.Lines.Lines()
	}
	text, err := seal(s, c.key)
	if err != nil {
		c.o.Log.Warn("report", "why", err)
		return
	}
	if len(text) > maxReport { // the servers would leave it out, and nobody would know
		c.refusals.warn(c.o.Log, "report is too large", "bytes", len(text), "most", maxReport)
		return
	}
	c.told = time.Now()
	if c.nc.IsConnected() { // else it would wait, and arrive late in a crowd of others
		c.nc.Publish(subjectCards+key(c.Group, c.cardFile.Card), text)
	}
}
