package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Use is what a bundle in the servers is needed for.
type Use string

const (
	UseStable  Use = "stable"  // it is what the group runs
	UseRollout Use = "rollout" // a rollout that isn't over brings it
	UseBack    Use = "back"    // the way back of the latest rollout leads to it
	UseOrder   Use = "order"   // a card's order names it still
)

// Stored is a bundle in the servers, of one group.
type Stored struct {
	Group string `json:"group"`
	File  string `json:"file"` // SHA-256 of the file, in hex
	// Size is what of it is there, in bytes: less than the file's where it is on its way, or didn't come whole.
	Size int64     `json:"size"`
	Put  time.Time `json:"put"` // when its last part came, by the servers
	// Bundle is what the group's document says of it; nil: nothing.
	Bundle *Artifact `json:"bundle,omitempty"`
	// Uses are what needs it. Where there are none nobody can need it any more, and Prune removes it.
	Uses []Use `json:"uses"`
	// Removing is true while it is removed.
	Removing bool `json:"removing,omitempty"`
}

// Removal is the removal of a group's bundles that nobody needed as it began. The leading hub does it. No rollout of them begins before it has ended.
type Removal struct {
	Files []string  `json:"files"`
	Begun time.Time `json:"begun"`
	// Last is the last number in the stream of bundles as it began. Chunks up to it are removed; those that are put there later have higher numbers, and stay.
	Last uint64 `json:"last"`
}

// has is true where a file is among those removed.
func (r *Removal) has(file string) bool { return r != nil && slices.Contains(r.Files, file) }

// same is true for one and the same removal.
func (r *Removal) same(as *Removal) bool {
	return r != nil && as != nil && r.Last == as.Last && r.Begun.Equal(as.Begun) && slices.Equal(r.Files, as.Files)
}

// maxRemoved bounds the files of one removal: it is part of the group's document.
const maxRemoved = 500

// needs are the bundles that a group's document has a use for, by file.
func (g *Group) needs() map[string]Stored {
	needs := map[string]Stored{}
	add := func(a Artifact, use Use) {
		if !a.IsZero() {
			s := needs[a.File]
			s.Bundle, s.Uses = &a, append(s.Uses, use)
			needs[a.File] = s
		}
	}
	add(g.Stable, UseStable)
	if r := g.Rollout; r != nil {
		if !r.State.Over() {
			add(r.To, UseRollout)
		}
		if r.State != Returned { // from there no way leads back
			add(r.From, UseBack)
		}
	}
	return needs
}

// Bundles are the bundles in the servers, of one group or (group is "") of all, by group and time.
func (c *Client) Bundles(ctx context.Context, group string) ([]Stored, error) {
	if group != "" {
		if err := CheckName("group", group); err != nil {
			return nil, err
		}
	}
	stored, _, err := c.stored(ctx, group)
	if err != nil {
		return nil, err
	}
	ordered, err := c.ordered(ctx)
	if err != nil {
		return nil, err
	}
	groups := map[string]Group{}
	for i := range stored {
		s := &stored[i]
		g, known := groups[s.Group]
		if !known {
			if g, err = c.Group(ctx, s.Group); err != nil {
				return nil, err
			}
			groups[s.Group] = g
		}
		need := g.needs()[s.File]
		s.Bundle, s.Uses, s.Removing = need.Bundle, need.Uses, g.Removal.has(s.File)
		if ordered[s.Group][s.File] {
			s.Uses = append(s.Uses, UseOrder)
		}
		if s.Uses == nil {
			s.Uses = []Use{}
		}
	}
	return stored, nil
}

// stored are the bundles in the servers, by group and time, and the stream's last number. Both are the leader's: any other server may lag.
func (c *Client) stored(ctx context.Context, group string) ([]Stored, uint64, error) {
	filter := subjectBundles + ">"
	if group != "" {
		filter = subjectBundles + group + ".>"
	}
	stream, err := c.js.Stream(ctx, streamBundles)
	if err != nil {
		return nil, 0, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, 0, err
	}
	type name struct{ group, file string }
	chunks := map[name][]int{}
	for subject := range info.State.Subjects {
		parts := strings.Split(cutPrefix(subject, subjectBundles), ".")
		if len(parts) != 3 || CheckName("group", parts[0]) != nil || checkFile(parts[1]) != nil {
			continue // no nepcof put it there
		}
		if i, err := strconv.Atoi(parts[2]); err == nil {
			n := name{parts[0], parts[1]}
			chunks[n] = append(chunks[n], i)
		}
	}
	var all []Stored
	for n, list := range chunks {
		last := slices.Max(list)
		m, err := c.chunk(ctx, chunkSubject(n.group, Artifact{File: n.file}, last))
		if err != nil {
			return nil, 0, err
		}
		if m == nil {
			continue // removed meanwhile
		}
		all = append(all, Stored{Group: n.group, File: n.file, Size: int64(len(list)-1)*chunkSize + int64(len(m.Data)), Put: m.Time.UTC()})
	}
	slices.SortFunc(all, func(a, b Stored) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), a.Put.Compare(b.Put), cmp.Compare(a.File, b.File))
	})
	return all, info.State.LastSeq, nil
}

// chunk is one of a bundle, as the stream's leader has it; nil: it hasn't.
func (c *Client) chunk(ctx context.Context, subject string) (*nats.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, chunkTime)
	defer cancel()
	m, err := c.newest.GetLastMsg(streamBundles, subject, nats.Context(ctx))
	if errors.Is(err, nats.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// ordered are the files that cards' orders name, by group.
func (c *Client) ordered(ctx context.Context) (map[string]map[string]bool, error) {
	files := map[string]map[string]bool{}
	err := all(ctx, c.orders, func(e jetstream.KeyValueEntry) error {
		group, _, _ := cutKey(e.Key())
		var o Order
		// Whose seal it has is for cards to judge.
		if err := peek(e.Value(), &o); err != nil {
			return nil // no card takes it up, and the hub replaces it
		}
		if files[group] == nil {
			files[group] = map[string]bool{}
		}
		files[group][o.Artifact.File] = true
		return nil
	})
	return files, err
}

// Prune has the leading hub remove the bundles from the servers that nobody can need any more, of one group or (group is "") of all, and waits until they
// are gone. It returns those. What a group runs, a rollout that isn't over, the way back of the latest and any card's order need a bundle.
//
// A rollout that begins at the same moment keeps its bundle. What is to be removed is first entered into the group's document, by compare-and-swap: where a
// rollout was entered before, the bundle is needed, and stays; where the removal was, the rollout is refused until that has ended, and one that was about to
// begin looks again whether its bundle is there (Client.Rollout). Where Prune ends early, the hub goes on.
func (c *Client) Prune(ctx context.Context, group string) ([]Stored, error) {
	if group != "" {
		if err := CheckName("group", group); err != nil {
			return nil, err
		}
	}
	list, _, err := c.stored(ctx, group)
	if err != nil {
		return nil, err
	}
	var removed []Stored
	for len(list) > 0 {
		n := 1 // those of the first's group
		for n < len(list) && list[n].Group == list[0].Group {
			n++
		}
		gone, err := c.prune(ctx, list[0].Group)
		removed = append(removed, gone...)
		if err != nil {
			return removed, err
		}
		list = list[n:]
	}
	return removed, nil
}

// prune is Prune of one group.
func (c *Client) prune(ctx context.Context, group string) (removed []Stored, err error) {
	now := c.Now(ctx)
	for {
		g, revision, err := c.group(ctx, group)
		if err != nil {
			return removed, err
		}
		if g.Removal != nil { // another's
			if err := c.removed(ctx, group, g.Removal); err != nil {
				return removed, err
			}
			continue
		}
		stored, last, err := c.stored(ctx, group)
		if err != nil {
			return removed, err
		}
		ordered, err := c.ordered(ctx)
		if err != nil {
			return removed, err
		}
		needs := g.needs()
		stored = slices.DeleteFunc(stored, func(s Stored) bool {
			_, needed := needs[s.File]
			return needed || ordered[group][s.File]
		})
		if len(stored) == 0 {
			return removed, nil
		}
		stored = stored[:min(len(stored), maxRemoved)]
		g.Version, g.Removal = version, &Removal{Begun: now, Last: last}
		for _, s := range stored {
			g.Removal.Files = append(g.Removal.Files, s.File)
		}
		switch _, err := c.put(ctx, g, revision); {
		case changedMeanwhile(err):
			continue
		case err != nil:
			return removed, err
		}
		if err := c.removed(ctx, group, g.Removal); err != nil {
			return removed, err
		}
		removed = append(removed, stored...)
	}
}

// removed waits until a removal has ended.
func (c *Client) removed(ctx context.Context, group string, r *Removal) error {
	for {
		g, err := c.Group(ctx, group)
		if err == nil && !r.same(g.Removal) {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		if pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("group %s: no hub has removed its bundles yet: it is done when one leads (%w)", group, ctx.Err())
		}
	}
}

// removeBundles does the removals that groups' documents ask for.
func (h *Hub) removeBundles(ctx context.Context) {
	h.mu.Lock()
	var asked []entry[Group]
	for name, g := range h.groups {
		if g.value.Removal != nil && h.unread[name] == "" {
			asked = append(asked, g)
		}
	}
	h.mu.Unlock()
	for _, g := range asked {
		if err := h.remove(ctx, g); err != nil && !changedMeanwhile(err) && ctx.Err() == nil {
			h.o.Log.Warn("bundles are not removed yet", "group", g.value.Name, "why", err)
		}
	}
}

// remove does the removal of a group's document, and takes it out of there, over the very document that was read. Until that is done it is done again, by this
// hub or another: as chunks that came later stay, that takes nothing else. What the document itself needs stays, whoever wrote it.
func (h *Hub) remove(ctx context.Context, g entry[Group]) error {
	group := g.value.Name
	stream, err := h.js.Stream(ctx, streamBundles)
	if err != nil {
		return err
	}
	needs := g.value.needs()
	for _, file := range g.value.Removal.Files {
		if _, needed := needs[file]; needed || checkFile(file) != nil {
			h.o.Log.Warn("bundle is not removed: it is needed, or its name is none", "group", group, "file", file)
			continue
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subjectBundles+group+"."+file+".*"), jetstream.WithPurgeSequence(g.value.Removal.Last+1)); err != nil {
			return fmt.Errorf("%.12s: %w", file, err)
		}
		h.o.Log.Info("bundle removed", "group", group, "file", file)
	}
	g.value.Removal = nil
	_, err = h.replace(ctx, g.value, g.revision)
	return err
}
