package report

import (
	"fmt"
	"strings"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/verify"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// words says in sentences which bytes of a flow a contract takes.
func words(c *traffic.Contract) (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	unit := "one byte"
	if c.TokenBytes == 2 {
		unit = "two bytes"
	}
	if c.View == traffic.ViewStream {
		say("The first %d bytes that the client sent and the first %d of the server, as an application reads them: however they were cut, ordered or repeated.", c.ClientBytes, c.ServerBytes)
		say("A token is %s; the sequence has %d tokens.", unit, c.Length)
		say("The verdict comes when both sides are complete, when %d bytes of one side have come, after %v of silence once both have spoken, or at the flow's end.", c.EnoughBytes, c.Quiet)
	} else {
		from := map[string]string{traffic.LayerEthernet: "the Ethernet header", traffic.LayerIP: "the IP header", traffic.LayerPayload: "the payload of TCP or UDP"}[c.FirstLayer]
		say("The first %d packets of a flow, both directions together, %d bytes of each at most, from %s on.", c.Packets, c.BytesPerPacket, from)
		if c.HeaderBytes > 0 {
			say("%d of a packet's bytes are for headers at most.", c.HeaderBytes)
		}
		say("A token is %s; the sequence has %d tokens, and what comes behind them is not seen.", unit, c.Length)
	}
	if len(c.Numbers) > 0 {
		var names []string
		for _, n := range c.Numbers {
			names = append(names, string(n))
		}
		say("Beside the tokens, numbers of each packet: %s.", strings.Join(names, ", "))
	}
	if len(c.Blank) > 0 {
		var names []string
		for _, b := range c.Blank {
			names = append(names, strings.ReplaceAll(string(b), "_", " "))
		}
		say("Set to zero, so that nothing can be learnt from them: %s.", strings.Join(names, ", "))
	} else {
		say("Nothing is set to zero.")
	}
	if c.Accept == traffic.AcceptHosts {
		say("Only packets count that their receiver takes.")
	} else {
		say("Every packet counts, as it comes.")
	}
	return list
}

// unknownWords say what makes verdicts of an output unknown.
func (o *Output) unknownWords() string {
	score := fmt.Sprintf("Verdicts with a score below %g", o.Threshold)
	far := fmt.Sprintf("flows farther from what is known than %s of known traffic", percentText(o.KnownPass))
	switch {
	case o.Kind == bundle.KindLabels:
		return "Each label is given from its own threshold on, none where none is reached. Labels have no score of belonging: nothing tells flows that are like none of the known ones."
	case o.Threshold > 0 && o.KnownPass > 0:
		return fmt.Sprintf("%s, and %s, are unknown: %s.", score, far, count(o.Unknown, "flow"))
	case o.Threshold > 0:
		return fmt.Sprintf("%s are unknown: %s.", score, count(o.Unknown, "flow"))
	case o.KnownPass > 0:
		return fmt.Sprintf("%s%s are unknown: %s.", strings.ToUpper(far[:1]), far[1:], count(o.Unknown, "flow"))
	}
	return "No threshold is set: every flow with enough payload is given a class, also traffic that is of none."
}

// noLabelWords say how flows count that get no label: what a summary's accuracy stands on.
func (o *Output) noLabelWords() string {
	if o.NoLabel == 0 {
		return ""
	}
	what := "class"
	if o.Kind == bundle.KindLabels {
		what = "labels"
	}
	return fmt.Sprintf(", counting %s that get no label by the %s that they would have", count(o.NoLabel, "flow"), what)
}

// tooFewWords say which classes were not left out.
func tooFewWords(k *verify.KnownStats) string {
	return fmt.Sprintf("Not left out, since fewer than %d flows tell nothing: %s.", calibrate.LeastFlows, strings.Join(k.TooFew, ", "))
}
