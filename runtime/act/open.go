package act

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Open makes the backend that a configuration asks for, for an agent that captures from an interface. Rules that an agent before has
// left are taken away, and returned.
//
// auto is flower where each place takes a filter into its hardware, else nftables, whose sets cost the same for any number of
// flows, else flower in software.
func Open(c *Config, captured string) (b Backend, found []Found, err error) {
	if found, err = sweep(c, captured); err != nil {
		return nil, nil, err
	}
	tries := map[string][]func() (Backend, error){
		"nftables": {func() (Backend, error) { return asBackend(openNFT(c, captured)) }},
		"flower":   {func() (Backend, error) { return asBackend(openFlower(c, captured, false)) }},
	}
	tries["auto"] = append(tries["nftables"], tries["flower"]...)
	switch c.Offload {
	case "required":
		tries["auto"] = tries["flower"]
	case "auto":
		tries["auto"] = slices.Insert(tries["auto"], 0, func() (Backend, error) { return asBackend(openFlower(c, captured, true)) })
	}
	var errs []error
	for _, try := range tries[c.Backend] {
		if b, err = try(); err == nil {
			return b, found, nil
		}
		errs = append(errs, err)
	}
	return nil, nil, fmt.Errorf("actions: no rules can be made here: %w", errors.Join(errs...))
}

func asBackend[B Backend](b B, err error) (Backend, error) {
	if err != nil {
		return nil, err // not an interface that holds nil
	}
	return b, nil
}

// sweep takes away what an agent that captured from the same interface has left in either of the kernel's tables.
func sweep(c *Config, captured string) (found []Found, err error) {
	names := slices.Clone(c.Interfaces)
	if len(names) == 0 {
		names = []string{captured}
	}
	return listAndFlush(captured, names, true)
}

// List is what rules of ours the kernel has, whoever made them: of the agent of one captured interface, or, where that is empty,
// of all.
func List(captured string) ([]Found, error) { return listAndFlush(captured, only(captured), false) }

// Flush takes them away and says which they were. An agent that runs makes no more rules then until it is started again.
func Flush(captured string) ([]Found, error) { return listAndFlush(captured, only(captured), true) }

func only(captured string) []string {
	if captured == "" {
		return nil
	}
	return []string{captured}
}

// listAndFlush lists and, if asked to, takes away rules of ours: nftables' of the agent of a captured interface, flower's at some
// interfaces; an empty name and nil are all.
func listAndFlush(captured string, interfaces []string, flush bool) (found []Found, err error) {
	var errs []error
	// What a kernel does not have holds no rules of ours.
	none := func(err error) bool {
		return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)
	}
	if n, err := dialNFT(); err == nil {
		list, err := n.list(captured)
		found = append(found, list...)
		if err == nil && flush {
			err = n.flushAll(captured)
		}
		n.Close()
		if err != nil && !none(err) {
			errs = append(errs, fmt.Errorf("nftables: %w", err))
		}
	} else if !none(err) {
		errs = append(errs, err)
	}
	f, err := dialFlower()
	if err != nil {
		return found, errors.Join(append(errs, err)...)
	}
	defer f.Close()
	places, err := f.everywhere(interfaces)
	if err == nil {
		var list []Found
		list, err = f.list(places)
		found = append(found, list...)
	}
	if err == nil && flush {
		for _, p := range places {
			if e := f.clear(p, f.index[p.Interface]); e != nil {
				errs = append(errs, fmt.Errorf("flower: %w", e))
			}
		}
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("flower: %w", err))
	}
	return found, errors.Join(errs...)
}
