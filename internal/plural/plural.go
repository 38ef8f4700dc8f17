// Package plural says how many there are of a thing. It imports nothing of ours, so every room may use it.
package plural

import (
	"fmt"
	"strings"
)

// Integer is any whole number.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Of is a number of things, with an s where it is not one: "1 rule", "0 rules", "2 classes".
func Of[N Integer](n N, thing string) string {
	return fmt.Sprintf("%d %s", n, Noun(n, thing))
}

// Noun is the thing alone, as it stands behind its number.
func Noun[N Integer](n N, thing string) string {
	switch {
	case n == 1:
		return thing
	case strings.HasSuffix(thing, "s"):
		return thing + "es"
	case strings.HasSuffix(thing, "cy"):
		return strings.TrimSuffix(thing, "y") + "ies"
	}
	return thing + "s"
}

// Verb is one or more, by their number: "1 rule is", "2 rules are".
func Verb[N Integer](n N, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}
