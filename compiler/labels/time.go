package labels

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// layouts are the calendar forms of times that are read. A fraction of the
// second may follow each; without a zone, the time is UTC.
var layouts = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05",
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05 Z0700", "2006-01-02 15:04:05",
}

// parseTime reads a time in nanoseconds since 1970, and the step that its digits
// leave open. It is a count of seconds since 1970, with a fraction or an exponent if
// need be, of milli-, micro- or nanoseconds, told by its size, or a date and time.
func parseTime(s string) (ns, step int64, err error) {
	if ns, step, ok := parseCount(s); ok {
		return ns, step, nil
	}
	for _, layout := range layouts {
		t, err := time.Parse(layout, s)
		if err != nil || t.Year() < 1970 || t.Year() > 2261 {
			continue
		}
		digits := 0
		if _, frac, ok := strings.Cut(s, "."); ok {
			digits = len(frac) - len(strings.TrimLeft(frac, "0123456789"))
		}
		return t.UnixNano(), power(9 - digits), nil
	}
	return 0, 0, fmt.Errorf("time %q is neither a count of seconds (or milli-, micro-, nanoseconds) since 1970, like 1700000000.250000, nor a date and time like 2023-11-14T22:13:20.25Z", s)
}

// parseCount reads a decimal number exactly: a float has not enough digits for
// today's nanoseconds. What is finer than those is cut off.
func parseCount(s string) (ns, step int64, ok bool) {
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(s[i+1:]); err != nil || exponent < -30 || exponent > 30 {
			return 0, 0, false
		}
		mantissa = s[:i]
	}
	whole, frac, _ := strings.Cut(mantissa, ".")
	digits := whole + frac
	if whole == "" || len(digits) > 60 || strings.Trim(digits, "0123456789") != "" {
		return 0, 0, false
	}
	scale := len(frac) - exponent // the value is digits / 10^scale
	digits = strings.TrimLeft(digits, "0")
	// Seconds have at most 11 digits (until the year 5138), each finer unit three more.
	switch n := len(digits) - scale; {
	case n > 17:
		scale += 9
	case n > 14:
		scale += 6
	case n > 11:
		scale += 3
	}
	if digits == "" {
		return 0, power(9 - scale), true
	}
	if shift := 9 - scale; shift >= 0 {
		digits += strings.Repeat("0", shift)
	} else {
		digits = digits[:max(0, len(digits)+shift)]
	}
	if digits == "" {
		return 0, 1, true
	}
	ns, err := strconv.ParseInt(digits, 10, 64)
	return ns, power(9 - scale), err == nil
}

// power is 10^n nanoseconds, within a nanosecond and a second.
func power(n int) int64 {
	p := int64(1)
	for range min(max(n, 0), 9) {
		p *= 10
	}
	return p
}
