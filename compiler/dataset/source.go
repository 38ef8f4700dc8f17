package dataset

import (
	"fmt"
	"strings"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// Source is by what packets become tokens: the contract, and the view in which packets are read.
type Source struct {
	Contract traffic.Contract
	View     bundle.View
}

// viewFlag is one field of a view, as the commands have it.
type viewFlag struct{ name, value string }

// viewFlags are the fields of a view, in one order.
func viewFlags(v bundle.View) []viewFlag {
	of := func(b bool) string { return fmt.Sprint(b) }
	return []viewFlag{{"tunnels", of(v.Tunnels)}, {"vlans", of(v.VLANs)}, {"interfaces", of(v.Interfaces)}, {"active-timeout", v.ActiveTimeout.String()}}
}

// Args are the arguments of nepcoc tokens that make sets by a contract of that name in a view.
func Args(contract string, v bundle.View) string {
	args := "--contract " + contract
	plain := viewFlags(bundle.View{})
	for i, f := range viewFlags(v) {
		if f != plain[i] {
			args += " --" + f.name + "=" + f.value
		}
	}
	return args
}

// Reader is who reads a set: what it is called, by what it reads packets, and the arguments of nepcoc tokens that make
// sets for it, "" where there are none to name.
type Reader struct {
	Source
	Name, Args string
}

// ForBundle is a bundle as a reader; its contract is read already.
func ForBundle(path string, c traffic.Contract, v bundle.View) *Reader {
	return &Reader{Source: Source{c, v}, Name: files.Show(path), Args: "--contract " + files.Show(path)}
}

// shownChoices is how many choices of a contract a message lists.
const shownChoices = 4

// Fits refuses a set that was made by another contract than its reader's, or in another view: the same packets would
// become other tokens. path is the set's.
func (s *Source) Fits(path string, r *Reader) error {
	anew := "make the set anew"
	if r.Args != "" {
		anew += ": nepcoc tokens " + r.Args
	}
	if s.Contract.Hash() != r.Contract.Hash() {
		var differ []string
		want := r.Contract.Choices()
		for i, c := range s.Contract.Choices() {
			if c.Value != want[i].Value {
				differ = append(differ, fmt.Sprintf("%s is %s there and %s here", c.Name, traffic.Shortened(c.Value), traffic.Shortened(want[i].Value)))
			}
		}
		if n := len(differ) - shownChoices; n > 1 {
			differ = append(differ[:shownChoices], fmt.Sprintf("%d more choices differ", n))
		}
		return fmt.Errorf("%s: made by the traffic contract %s, and %s reads %s (%s): %s", path, s.Contract.Name, r.Name, r.Contract.Name, strings.Join(differ, ", "), anew)
	}
	var made, reads []string
	want := viewFlags(r.View)
	for i, f := range viewFlags(s.View) {
		if f != want[i] {
			made, reads = append(made, "--"+f.name+"="+f.value), append(reads, "--"+f.name+"="+want[i].value)
		}
	}
	if made == nil {
		return nil
	}
	return fmt.Errorf("%s: made with %s, and %s reads packets with %s: %s", path, strings.Join(made, " "), r.Name, strings.Join(reads, " "), anew)
}
