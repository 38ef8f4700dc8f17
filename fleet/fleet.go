// Package fleet rolls bundles out to many cards and brings their verdicts together, over NATS with JetStream.
//
// Three parts speak to each other through streams only, so that each may be away for a while:
//
//	Card   on every card: fetches what it is ordered to run, has the agent check it, reports; forwards the agent's lines from a bounded store on disk
//	Hub    any number, of which one leads: moves rollouts on, by what cards report, and orders
//	Client what the operator's commands and the page do: read, begin, halt, turn back
//
// What a group runs is one document in a key-value store, its Group, changed by compare-and-swap only. Every order carries that document's revision as
// its number, and no card takes up one with a lower number: two hubs that both think they lead can't order two versions at once.
// A hub never signs bundles. Cards run what the agent's own trust accepts (runtime/trust), so that who takes a hub over can't make them run anything else.
package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"nepcoc/runtime/bundle"
)

// version is of all documents and messages here. Later versions read this one.
const version = 1

// Key-value buckets and streams. Cards may use what ends in their own group and name, and nothing else (access.go).
// What cards write are streams, not buckets: a bucket lets any of its writers replace all of it (Nats-Rollup).
const (
	bucketGroups  = "nepco-groups"  // GROUP: Group
	bucketMembers = "nepco-members" // GROUP.CARD: Member
	bucketTokens  = "nepco-tokens"  // ID: enrolment tokens that have not been used
	bucketOrders  = "nepco-orders"  // GROUP.CARD: sealed Order
	bucketLeader  = "nepco-leader"  // "hub": who leads, for as long as it says so

	streamGroups  = "KV_" + bucketGroups
	streamCards   = "nepco-cards"   // nepco.cards.GROUP.CARD: sealed Status, the last one
	streamBundles = "nepco-bundles" // nepco.bundles.GROUP.FILE.CHUNK
	streamLines   = "nepco-lines-"  // and the group: nepco.lines.GROUP.CARD

	subjectCards   = "nepco.cards."
	subjectBundles = "nepco.bundles."
	subjectLines   = "nepco.lines."
	subjectEnrol   = "nepco.enrol." // ID, a request
	subjectGroups  = "$KV." + bucketGroups + "."
	subjectOrders  = "$KV." + bucketOrders + "."
	inboxPrefix    = "_INBOX_nepco." // GROUP.CARD: where a card's answers go

	directGet = "$JS.API.DIRECT.GET." // stream, subject: the last message on it
)

// maxReport bounds what a card reports, sealed, in bytes.
const maxReport = 64 << 10

// chunkSize is how a bundle is cut into messages, in bytes: servers take up to 1 MiB.
const chunkSize = 256 << 10

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckName says why a name can't be a card's or a group's: they are parts of subjects and, as host names, up to 63 of a-z, 0-9 and - within.
func CheckName(what, name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%s %q: names are of a to z, 0 to 9 and - (not at an end), 63 at most", what, name)
	}
	return nil
}

// Artifact is one bundle file.
type Artifact struct {
	// File is the SHA-256 of the file in hex, Digest the bundle's own, which a signature doesn't change and agents report.
	File   string `json:"file"`
	Digest string `json:"digest"`
	Serial uint64 `json:"serial,omitempty"`
	Size   int64  `json:"size"`
	// Name is the model's, for people.
	Name string `json:"name,omitempty"`
	// Back is the signed reason to run this bundle after Past's serial (runtime/trust.Rollback), for cards that did.
	Back string `json:"back,omitempty"`
}

// NewArtifact describes a bundle file. It must be whole, but is not held to any key: that is up to cards.
func NewArtifact(data []byte, b *bundle.Bundle) Artifact {
	sum := sha256.Sum256(data)
	a := Artifact{File: hex.EncodeToString(sum[:]), Digest: b.Digest.String(), Size: int64(len(data)), Name: b.Name()}
	if b.Signature != nil {
		a.Serial = b.Signature.Serial
	}
	return a
}

// IsZero is true for no bundle.
func (a Artifact) IsZero() bool { return a.File == "" }

// chunks is how many messages a file of the artifact's size takes.
func (a Artifact) chunks() int { return int((a.Size + chunkSize - 1) / chunkSize) }

func (a Artifact) check() error {
	if err := checkFile(a.File); err != nil {
		return fmt.Errorf("an order without the file's SHA-256: %w", err)
	}
	if a.Size <= 0 || a.Size > bundle.MaxFileSize {
		return fmt.Errorf("a bundle of %d bytes: there are none of that size", a.Size)
	}
	return nil
}

// checkFile says why a text is no SHA-256 in hex.
func checkFile(file string) error {
	if raw, err := hex.DecodeString(file); err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("%.80q is no SHA-256", file)
	}
	return nil
}

// String is an artifact as people see it.
func (a Artifact) String() string {
	switch {
	case a.IsZero():
		return "none"
	case a.Serial != 0:
		return fmt.Sprintf("%.12s (serial %d)", a.Digest, a.Serial)
	}
	return fmt.Sprintf("%.12s", a.Digest)
}

// Member is a card that was enrolled.
type Member struct {
	Version int `json:"version"`
	// Public is the card's key (an NKey): what it reports and sends is sealed with it.
	Public   string    `json:"public"`
	Enrolled time.Time `json:"enrolled"`
	// Before are the keys of earlier enrolments under the name. Servers know them until the card is revoked.
	Before []string `json:"before,omitempty"`
}

// Order is what one card is to run. It is sealed by the hub.
type Order struct {
	Version int    `json:"version"`
	Group   string `json:"group"`
	Card    string `json:"card"`
	// Number is the revision of the group's document that the order was made from.
	Number   uint64   `json:"number"`
	Artifact Artifact `json:"artifact"`
	// Try tells a rollout's attempts apart: a card that refused the bundle judges it again with the next.
	Try string `json:"try,omitempty"`
}

// Phase is how far a card is with its order.
type Phase string

const (
	Idle     Phase = "idle"     // no order yet
	Fetching Phase = "fetching" // reading the bundle
	Placed   Phase = "placed"   // the agent has not taken it up yet
	Running  Phase = "running"  // the agent runs what was ordered
	Refused  Phase = "refused"  // the agent won't run it, or went back: Reason says why
)

// Status is what a card reports.
type Status struct {
	Version int    `json:"version"`
	Group   string `json:"group"`
	Card    string `json:"card"`
	// At is by the card's clock, Seen when the servers had it, by theirs.
	At   time.Time `json:"at"`
	Seen time.Time `json:"seen,omitzero"`
	// Order is the number of the order that Phase is about, and Wanted its file.
	Order  uint64 `json:"order"`
	Wanted string `json:"wanted,omitempty"`
	Phase  Phase  `json:"phase"`
	Reason string `json:"reason,omitempty"`
	Agent  Agent  `json:"agent"`
	Lines  Lines  `json:"lines"`
}

// Agent is how nepcod on a card is.
type Agent struct {
	// Digest is of the bundle that new flows are given to; "": the agent doesn't answer, and Problem says so.
	Digest  string `json:"digest,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Since counts what follows: from when the bundle in use was taken up.
	Since time.Time `json:"since,omitzero"`
	// Packets seen and dropped, verdicts by label, and those that are unknown.
	Packets  float64            `json:"packets"`
	Dropped  float64            `json:"dropped"`
	Verdicts map[string]float64 `json:"verdicts,omitempty"`
	Unknown  float64            `json:"unknown"`
	// Refused is why the agent did not take up the last bundle that was put in its place, or went back from it.
	Refused string `json:"refused,omitempty"`
	// Latency is the 99th percentile from a flow's last packet to its verdict, in seconds.
	Latency float64 `json:"latency"`
	Drift   bool    `json:"drift,omitempty"`
}

// check says why figures are none that an agent counts: a card's would spoil those of others that it is added to.
func (a *Agent) check() error {
	const most = 1 << 53
	for _, n := range append(slices.Collect(maps.Values(a.Verdicts)), a.Packets, a.Dropped, a.Unknown, a.Latency) {
		if !(n >= 0 && n <= most) {
			return fmt.Errorf("tells of %g packets, verdicts or seconds", n)
		}
	}
	return nil
}

// Flows is how many verdicts there were.
func (a *Agent) Flows() (n float64) {
	for _, v := range a.Verdicts {
		n += v
	}
	return n + a.Unknown
}

// maxLabels is how many labels a card reports apart: what it reports must fit into a message (maxReport).
const maxLabels = 300

// others is what labels are together that aren't told apart.
const others = "others"

// fewer is a with at most maxLabels labels, the most frequent, and the sum of all others.
func (a Agent) fewer() Agent {
	if len(a.Verdicts) <= maxLabels {
		return a
	}
	labels := slices.SortedFunc(maps.Keys(a.Verdicts), func(x, y string) int {
		return cmp.Or(cmp.Compare(a.Verdicts[y], a.Verdicts[x]), strings.Compare(x, y))
	})
	few := map[string]float64{}
	for i, l := range labels {
		if i < maxLabels {
			few[l] += a.Verdicts[l]
		} else {
			few[others] += a.Verdicts[l]
		}
	}
	a.Verdicts = few
	return a
}

// DropShare and UnknownShare are 0 where nothing was counted.
func (a *Agent) DropShare() float64    { return share(a.Dropped, a.Packets+a.Dropped) }
func (a *Agent) UnknownShare() float64 { return share(a.Unknown, a.Flows()) }

func share(part, of float64) float64 {
	if of <= 0 {
		return 0
	}
	return part / of
}

// Lines is what a card has of the agent's lines: counted from its store's beginning.
type Lines struct {
	Stored  uint64 `json:"stored"`  // taken from the agent
	Sent    uint64 `json:"sent"`    // the hub's servers have them
	Dropped uint64 `json:"dropped"` // the store was full, and they were the oldest
}

// seal writes v under the signature of key: base64url of the JSON, a dot, base64url of the signature.
func seal(v any, key nkeys.KeyPair) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(text)
	if err != nil {
		return nil, err
	}
	e := base64.RawURLEncoding
	return []byte(e.EncodeToString(text) + "." + e.EncodeToString(signature)), nil
}

// unseal reads what the public key's owner sealed.
func unseal(data []byte, public string, v any) error {
	rawText, rawSignature, err := cutSeal(data)
	if err != nil {
		return err
	}
	key, err := nkeys.FromPublicKey(public)
	if err != nil {
		return err
	}
	if err := key.Verify(rawText, rawSignature); err != nil {
		return errors.New("the seal does not hold")
	}
	return json.Unmarshal(rawText, v)
}

// peek reads what somebody sealed, whoever that is.
func peek(data []byte, v any) error {
	text, _, err := cutSeal(data)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// cutSeal takes a sealed message apart.
func cutSeal(data []byte) (text, signature []byte, err error) {
	first, second, ok := strings.Cut(string(data), ".")
	if !ok {
		return nil, nil, errors.New("not a sealed message")
	}
	text, err1 := base64.RawURLEncoding.DecodeString(first)
	signature, err2 := base64.RawURLEncoding.DecodeString(second)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, fmt.Errorf("not a sealed message: %w", err)
	}
	return text, signature, nil
}
