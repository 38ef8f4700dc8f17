// Package act makes rules of verdicts: packets of a flow that has a chosen label are marked, mirrored, held to a rate or dropped,
// both ways, for a time.
//
//	verdict -> Policy -> queue -> Manager -> Backend (nftables, tc flower) -> kernel
//
// A Policy says of a verdict which rule it asks for, or why there is none; it is a function of the record alone. A Manager holds
// what is in force: bounds, time limits, events, and that everything is undone. A Backend puts rules into the kernel and says of
// each whether it is there. Workers only ask the policy and offer what it wants to a queue that never waits; everything else
// is done by the manager's one goroutine.
//
// Flows are matched by their exact 5-tuple, so that nothing else is ever touched, and so that the list of what must not be
// touched is kept by not making rules. Nothing outlives its time: nftables' sets forget by themselves, tc's filters are
// known by a cookie and deleted by the manager, by the next start, and by Flush.
//
// The package imports runtime/flow and runtime/verdict and knows nothing of models and of the packet path.
package act

import (
	"errors"
	"sync/atomic"
	"time"

	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// Kind is what is done with packets.
type Kind uint8

// The kinds.
const (
	Mark      Kind = iota // sets skb->mark, for other rules of the system to read
	Mirror                // sends copies to another interface
	RateLimit             // drops what exceeds a rate
	Drop
	NumKinds
)

var kindNames = [NumKinds]string{"mark", "mirror", "rate-limit", "drop"}

func (k Kind) String() string { return kindNames[k] }

// Effect is what a rule does.
type Effect struct {
	Kind Kind
	Mark uint32 // of Mark
	To   string // interface, of Mirror
	Rate uint64 // bytes a second in each direction, of RateLimit
}

// Rule is one that a backend is asked for.
type Rule struct {
	ID     uint32        // by the manager, 1 to MaxID; no two in force have the same
	Entry  int           // of the configuration's rules
	Flow   Flow          // whose packets
	For    time.Duration // how long
	Until  int64         // the same, seconds since 1970
	Effect Effect
	Label  string
	FlowID uint64 // of the verdict's events
}

// MaxID is the highest number of a rule: numbers begin again behind it.
const MaxID = 1<<30 - 1

// Flow is what a rule matches: packets with Key's addresses and ports, in both directions.
type Flow struct {
	Key flow.Key // canonical; TCP or UDP, in no tunnel
	// Tagged: only packets with the VLAN id of Key.VLAN[0], or without one where that is 0. Otherwise VLANs don't tell flows
	// apart.
	Tagged bool
}

// Found is a rule of ours that was found in the kernel.
type Found struct {
	Backend string
	Kind    Kind
	Flow    Flow
	Where   []string // interface and hook, such as "p0 ingress"
	Label   string   // empty where the backend can't keep it
	FlowID  uint64
	Left    time.Duration // until its time is over
}

// Backend puts rules into the kernel. Its methods are called by one goroutine at a time and come back within Patience.
type Backend interface {
	Name() string
	// Add puts rules in force; the errors are those of the rules with the same index, nil for those that are in force as a
	// whole. Of a rule with an error nothing is left.
	Add([]Rule) []error
	// Delete takes rules away. A rule that is gone already is no error.
	Delete([]Rule) error
	// Expires says that the kernel ends rules by itself when their time is over.
	Expires() bool
	// Hardware says whether a rule that was added is done by hardware: "yes", "partly", "no", or "" where the backend has no word
	// for it.
	Hardware(Rule) string
	// Check says whether rules that were added are still there; some of them are given. lost are those of them, by index, that somebody has taken away or a part
	// of them; nothing of them is left then. ErrGone: what all rules hang on is gone.
	Check(some []Rule) (lost []int, err error)
	// Undo takes all rules of ours away.
	Undo() error
	Close() error
}

// ErrGone says that what rules hang on is gone: somebody has flushed them, or an interface was removed.
var ErrGone = errors.New("the rules are gone from the kernel: they were flushed, or an interface was removed")

// Patience bounds a backend's answer.
const Patience = 5 * time.Second

// listPatience bounds the answer that lists rules: an emulated card takes some seconds for 10,000.
const listPatience = time.Minute

// Want is a rule that a verdict asks for.
type Want struct {
	Entry int
	Flow  Flow
	Event verdict.Action // what its events have in common
	At    time.Time      // of the verdict
	// Barred: what the verdict's model says is no reason to do anything, from when that is set.
	Barred *atomic.Bool
}
