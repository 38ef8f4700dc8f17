package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"nepcoc/internal/files"
)

// Files of a fleet's folder. What ends in .nk or .key is secret.
const (
	fileOperatorKey   = "operator.nk"
	fileOperator      = "operator.jwt"
	fileSystem        = "system.jwt"
	fileAccountKey    = "account.nk" // signs credentials of hubs and operators
	FileAccount       = "account.jwt"
	fileCardsKey      = "cards.nk" // signs cards' credentials: the hub's
	fileCards         = "cards.jwt"
	fileSealKey       = "seal.nk" // seals orders: the hub's
	fileHubCreds      = "hub.creds"
	FileOperatorCreds = "operator.creds" // the commands'
	fileCA            = "ca.pem"
	fileCAKey         = "ca.key"
	fileCert          = "server.pem"
	fileCertKey       = "server.key"
	FileConf          = "nats-access.conf" // to include in the configuration of one's own servers
)

// OperatorFiles are what of a fleet's folder an operator's machine needs: with them, commands change what groups run, but can't speak for hub or cards.
var OperatorFiles = []string{fileOperator, FileAccount, fileCards, FileOperatorCreds, fileCA}

// Access is a fleet's folder: who may do what, as JWTs that every NATS server of the fleet knows.
type Access struct {
	dir      string
	operator *jwt.OperatorClaims
	system   string // public keys of accounts
	account  string
	cards    string
	users    nkeys.KeyPair // signs cards; nil where the folder is an operator's
	seal     nkeys.KeyPair // seals orders; nil likewise
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// checkHosts says which are neither names nor addresses of machines: no certificate is for them.
func checkHosts(hosts []string) (err error) {
	for _, h := range hosts {
		if net.ParseIP(h) == nil && !hostForm.MatchString(h) {
			err = errors.Join(err, fmt.Errorf("host %q: is no name or address of a machine (without a port, and without tls://)", h))
		}
	}
	return err
}

// CheckURLs says which of the servers' addresses, with commas between, are none.
func CheckURLs(list string) (err error) {
	for _, text := range strings.Split(list, ",") {
		u, bad := url.Parse(text)
		if bad == nil {
			bad = checkHosts([]string{u.Hostname()})
		}
		if bad != nil || u.Scheme != "tls" && u.Scheme != "nats" {
			err = errors.Join(err, fmt.Errorf("servers' address %q: is not as tls://HOST:PORT", text))
		}
	}
	return err
}

// InitAccess makes a fleet's folder, which must not be there: an operator, an account for the fleet and one for the system, credentials
// of the hub and of the commands, and a certificate for the hosts.
func InitAccess(dir string, hosts []string) (err error) {
	if err := checkHosts(hosts); err != nil {
		return err
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: a fleet's folder is made once; give another name", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	// Whole or not at all.
	part, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".*.part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(part)
		}
	}()
	w := accessWriter{dir: part}
	operator, seal := w.key(nkeys.CreateOperator), w.key(nkeys.CreateUser)
	system, account, cards := w.key(nkeys.CreateAccount), w.key(nkeys.CreateAccount), w.key(nkeys.CreateAccount)
	if w.err != nil {
		return w.err
	}
	oc := jwt.NewOperatorClaims(public(operator))
	oc.Name, oc.SystemAccount = "nepco", public(system)
	sc := jwt.NewAccountClaims(public(system))
	sc.Name = "SYS"
	ac := jwt.NewAccountClaims(public(account))
	ac.Name = "FLEET"
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	cc := jwt.NewAccountClaims(public(cards))
	cc.Name = "CARDS"
	lend(ac, cc)
	w.text(fileOperator, encode(&w, oc, operator), 0o644)
	w.text(fileSystem, encode(&w, sc, operator), 0o644)
	w.text(FileAccount, encode(&w, ac, operator), 0o644)
	w.text(fileCards, encode(&w, cc, operator), 0o644)
	w.seed(fileOperatorKey, operator)
	w.seed(fileCardsKey, cards)
	w.seed(fileAccountKey, account)
	w.seed(fileSealKey, seal)
	w.creds(fileHubCreds, account, "hub", unbounded)
	w.creds(FileOperatorCreds, account, "operator", operatorPermissions())
	w.certificates(hosts)
	a := &Access{dir: part, operator: oc, system: public(system), account: public(account), cards: public(cards)}
	if w.err == nil {
		conf, err := a.serverConf()
		w.fail(err)
		w.text(FileConf, conf, 0o644)
	}
	if w.err != nil {
		return w.err
	}
	return os.Rename(part, dir)
}

// accountFiles are the JWTs of the folder's accounts, by public key.
func (a *Access) accountFiles() map[string]string {
	return map[string]string{a.system: fileSystem, a.account: FileAccount, a.cards: fileCards}
}

// serverConf is what NATS servers with a configuration of their own are to know of the fleet's accounts.
func (a *Access) serverConf() (string, error) {
	operator, err := files.All(a.file(fileOperator), 1<<20)
	if err != nil {
		return "", err
	}
	conf := fmt.Sprintf("# For each NATS server of the fleet: include this file.\noperator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n", operator, a.system)
	for _, key := range []string{a.system, a.account, a.cards} {
		text, err := files.All(a.file(a.accountFiles()[key]), 1<<20)
		if err != nil {
			return "", err
		}
		conf += fmt.Sprintf("  %s: %s\n", key, text)
	}
	return conf + "}\n", nil
}

// refuse has servers refuse a user of an account, by its public key: as soon as they have the account's new JWT.
func (a *Access) refuse(account string, users ...string) error {
	operator, err := a.key(fileOperatorKey)
	if err == nil && operator == nil {
		err = fmt.Errorf("%s: has no %s: credentials are revoked with the folder that nepcof init made", a.dir, fileOperatorKey)
	}
	if err != nil {
		return err
	}
	unlock, err := a.lock()
	if err != nil {
		return err
	}
	defer unlock()
	name := a.accountFiles()[account]
	c, err := claims(a, name, jwt.DecodeAccountClaims)
	if err != nil {
		return err
	}
	for _, user := range users {
		c.Revoke(user)
	}
	text, err := c.Encode(operator)
	if err != nil {
		return err
	}
	if err := files.Write(a.file(name), []byte(text)); err != nil {
		return err
	}
	conf, err := a.serverConf()
	if err != nil {
		return err
	}
	return files.Write(a.file(FileConf), []byte(conf))
}

// lock keeps others from changing the folder's accounts until the function that it returns is called: of two changes at once, one would be lost.
func (a *Access) lock() (func(), error) {
	f, err := os.Open(a.file(fileOperatorKey))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// RevokeOperator makes new credentials for the commands, and has those before refused. The hub's are others.
func (a *Access) RevokeOperator() error {
	text, err := files.All(a.file(FileOperatorCreds), 1<<20)
	if err != nil {
		return err
	}
	old, err := nkeys.ParseDecoratedUserNKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", a.file(FileOperatorCreds), err)
	}
	account, err := a.key(fileAccountKey)
	if err == nil && account == nil {
		err = fmt.Errorf("%s: has no %s: credentials are revoked with the folder that nepcof init made", a.dir, fileAccountKey)
	}
	if err != nil {
		return err
	}
	creds, err := newCreds(account, "operator", operatorPermissions())
	if err != nil {
		return err
	}
	if err := a.refuse(a.account, public(old)); err != nil {
		return err
	}
	return files.Write(a.file(FileOperatorCreds), creds)
}

// lend lets cards use of the fleet's subjects those that are theirs. Cards have an account of their own since the servers' answers go, unchecked, to
// whatever subject a request names: in the fleet's account that could be a bucket's.
func lend(fleet, cards *jwt.AccountClaims) {
	add := func(subject string, kind jwt.ExportType) {
		fleet.Exports.Add(&jwt.Export{Name: subject, Subject: jwt.Subject(subject), Type: kind})
		cards.Imports.Add(&jwt.Import{Name: subject, Subject: jwt.Subject(subject), Account: fleet.Subject, Type: kind})
	}
	for _, s := range []string{subjectLines + ">", subjectCards + ">", subjectEnrol + "*", directGet + "KV_" + bucketOrders + "." + subjectOrders + ">", directGet + streamBundles + "." + subjectBundles + ">"} {
		add(s, jwt.Service)
	}
	add(subjectOrders+">", jwt.Stream)
}

// accessWriter writes the files of a folder until something fails.
type accessWriter struct {
	dir string
	err error
}

func (w *accessWriter) key(create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	k, err := create()
	w.fail(err)
	return k
}

func (w *accessWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *accessWriter) text(name, text string, mode os.FileMode) {
	if w.err == nil {
		w.fail(files.WriteNew(filepath.Join(w.dir, name), []byte(text), mode))
	}
}

func (w *accessWriter) seed(name string, key nkeys.KeyPair) {
	seed, err := key.Seed()
	w.fail(err)
	w.text(name, string(seed)+"\n", 0o600)
}

func (w *accessWriter) creds(name string, account nkeys.KeyPair, user string, p rights) {
	creds, err := newCreds(account, user, p)
	w.fail(err)
	w.text(name, string(creds), 0o600)
}

// newCreds are the credentials, a JWT and its key, of a new user.
func newCreds(account nkeys.KeyPair, name string, p rights) ([]byte, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	token, err := userJWT(account, public(key), name, p, time.Time{})
	if err != nil {
		return nil, err
	}
	return credsOf(token, key)
}

func credsOf(token string, key nkeys.KeyPair) ([]byte, error) {
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	return jwt.FormatUserConfig(token, seed)
}

// rights are subjects, and bounds that servers hold a connection to: subscriptions, and bytes of a message.
type rights struct {
	jwt.Permissions
	jwt.NatsLimits
}

var (
	unbounded = rights{NatsLimits: jwt.NatsLimits{Subs: jwt.NoLimit, Data: jwt.NoLimit, Payload: jwt.NoLimit}}
	// A card has two subscriptions, and sends a line of maxLine at most, with headers.
	ofCards = rights{NatsLimits: jwt.NatsLimits{Subs: 8, Data: jwt.NoLimit, Payload: maxLine + 16<<10}}
)

// userJWT lets the owner of a key do what p says, until a time (zero: for good).
func userJWT(account nkeys.KeyPair, key, name string, p rights, until time.Time) (string, error) {
	u := jwt.NewUserClaims(key)
	u.Name, u.Permissions, u.NatsLimits = name, p.Permissions, p.NatsLimits
	if !until.IsZero() {
		u.Expires = until.Unix()
	}
	return u.Encode(account)
}

// cardPermissions are all that a card may do: send its lines and its state, read its order and its group's bundles.
func cardPermissions(group, card string) rights {
	p := ofCards
	own := group + "." + card
	p.Pub.Allow.Add(
		subjectLines+own,
		subjectCards+own,
		directGet+"KV_"+bucketOrders+"."+subjectOrders+own,
		directGet+streamBundles+"."+subjectBundles+group+".>",
	)
	p.Sub.Allow.Add(inboxPrefix+own+".>", subjectOrders+own)
	return p
}

// enrolPermissions are all that a token may do: ask once.
func enrolPermissions(id string) rights {
	p := ofCards
	p.Pub.Allow.Add(subjectEnrol + id)
	p.Sub.Allow.Add(inboxPrefix + "enrol." + id + ".>")
	return p
}

// operatorPermissions are the commands': they read everything and change what groups run. They neither order, nor enrol, nor speak for cards, nor change streams.
func operatorPermissions() rights {
	p := unbounded
	p.Pub.Allow.Add(
		"$KV."+bucketGroups+".>",
		subjectBundles+">",
		"$JS.API.INFO", "$JS.API.STREAM.INFO.>", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.GET.>",
		"$JS.API.CONSUMER.>", "$JS.FC.>", "$JS.ACK.>",
	)
	return p
}

func encode(w *accessWriter, c interface {
	Encode(nkeys.KeyPair) (string, error)
}, key nkeys.KeyPair) string {
	text, err := c.Encode(key)
	w.fail(err)
	return text
}

// public is a key's public half; keys here are made or checked by us.
func public(k nkeys.KeyPair) string {
	text, err := k.PublicKey()
	if err != nil {
		panic(err)
	}
	return text
}

// certificates makes an authority of the fleet's own and a certificate of its servers.
func (w *accessWriter) certificates(hosts []string) {
	begin := time.Now().Add(-time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nepco fleet"}, NotBefore: begin, NotAfter: begin.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey := w.certificate(fileCA, fileCAKey, ca, ca, nil)
	cert := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "nepco hub"}, NotBefore: begin, NotAfter: begin.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, h := range append([]string{"localhost", "127.0.0.1", "::1"}, hosts...) {
		if ip := net.ParseIP(h); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, h)
		}
	}
	w.certificate(fileCert, fileCertKey, cert, ca, caKey)
}

// certificate writes a certificate, signed by the parent's key or (nil) by its own, and its key.
func (w *accessWriter) certificate(name, keyName string, c, parent *x509.Certificate, by *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if w.fail(err); w.err != nil {
		return nil
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	w.fail(err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	w.fail(err)
	w.text(name, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	w.text(keyName, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})), 0o600)
	return key
}

// OpenAccess reads a fleet's folder. An operator's has neither the cards' key nor the seal.
func OpenAccess(dir string) (*Access, error) {
	a := &Access{dir: dir}
	operator, err := claims(a, fileOperator, jwt.DecodeOperatorClaims)
	if err != nil {
		return nil, fmt.Errorf("%w: no fleet's folder: nepcof init makes one", err)
	}
	account, err := claims(a, FileAccount, jwt.DecodeAccountClaims)
	if err != nil {
		return nil, err
	}
	cards, err := claims(a, fileCards, jwt.DecodeAccountClaims)
	if err != nil {
		return nil, err
	}
	a.operator, a.system, a.account, a.cards = operator, operator.SystemAccount, account.Subject, cards.Subject
	if a.users, err = a.key(fileCardsKey); err != nil {
		return nil, err
	}
	if a.seal, err = a.key(fileSealKey); err != nil {
		return nil, err
	}
	return a, nil
}

// claims reads a JWT of the folder.
func claims[T any](a *Access, name string, decode func(string) (T, error)) (c T, err error) {
	text, err := files.All(a.file(name), 1<<20)
	if err != nil {
		return c, err
	}
	if c, err = decode(string(text)); err != nil {
		err = fmt.Errorf("%s: not as nepcof init wrote it: %w", a.file(name), err)
	}
	return c, err
}

func (a *Access) file(name string) string { return filepath.Join(a.dir, name) }

// key reads a seed; nil where the folder has none.
func (a *Access) key(name string) (nkeys.KeyPair, error) {
	text, err := files.All(a.file(name), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k, err := nkeys.ParseDecoratedNKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.file(name), err)
	}
	return k, nil
}

// resolver knows the accounts of the folder.
func (a *Access) resolver() (server.AccountResolver, error) {
	r := &server.MemAccResolver{}
	for key, name := range a.accountFiles() {
		text, err := files.All(a.file(name), 1<<20)
		if err != nil {
			return nil, err
		}
		if err := r.Store(key, string(text)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// serverTLS is what the fleet's servers show.
func (a *Access) serverTLS() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(a.file(fileCert), a.file(fileCertKey))
	if err != nil {
		return nil, err
	}
	pool, err := a.authorities()
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, RootCAs: pool, MinVersion: tls.VersionTLS13}, err
}

func (a *Access) authorities() (*x509.CertPool, error) {
	text, err := files.All(a.file(fileCA), 1<<20)
	if err != nil {
		return nil, err
	}
	return pool(text, a.file(fileCA))
}

func pool(text []byte, name string) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", name)
	}
	return p, nil
}

// connect opens a connection with the folder's credentials: the hub's where it has them, or the operator's.
func (a *Access) connect(url, name string, opts ...nats.Option) (*nats.Conn, error) {
	creds := a.file(fileHubCreds)
	if _, err := os.Stat(creds); err != nil {
		creds = a.file(FileOperatorCreds)
	}
	authorities, err := a.authorities()
	if err != nil {
		return nil, err
	}
	return dial(url, append([]nats.Option{nats.Name(name), nats.UserCredentials(creds),
		nats.Secure(&tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS13})}, opts...)...)
}

// Lasting is for a service's connection: it also comes back from servers that refused it for a while, as one does that has not read all of its accounts
// yet. Other connections end where they are refused twice.
func Lasting(log *slog.Logger) nats.Option {
	var refusals seldom
	return func(o *nats.Options) error {
		return errors.Join(nats.IgnoreAuthErrorAbort()(o), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			refusals.warn(log, "connection", "why", refused(err))
		})(o))
	}
}

// dial opens a connection that comes back by itself, for as long as it takes.
func dial(url string, opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(url, append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(time.Second), nats.ReconnectJitter(time.Second, time.Second),
		nats.PingInterval(20 * time.Second), nats.Timeout(5 * time.Second), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, opts...)...)
	if errors.Is(err, nats.ErrNoServers) {
		err = fmt.Errorf("no server of the fleet answers there (%w)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, refused(err))
	}
	return nc, nil
}

// refused says what it means that servers refuse a connection.
func refused(err error) error {
	for _, r := range []error{nats.ErrAuthorization, nats.ErrAuthRevoked, nats.ErrAuthExpired, nats.ErrAccountAuthExpired} {
		if errors.Is(err, r) {
			return fmt.Errorf("the servers don't take these credentials: they were revoked or are too old, or the servers are another fleet's (%w)", err)
		}
	}
	return err
}
