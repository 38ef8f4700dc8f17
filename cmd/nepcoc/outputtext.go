package main

import (
	"fmt"
	"strconv"
	"strings"

	"nepcoc/runtime/bundle"
)

// outputText says in one line what an output of a model means.
func outputText(o *bundle.OutputInfo) string {
	kind := o.EffectiveKind()
	text := o.Name + ": " + string(kind)
	names := o.Labels
	switch kind {
	case bundle.KindBinary:
		if names == nil {
			names = []string{"0", "1"}
		}
		text += fmt.Sprintf(", %s or from %g on %s", names[0], o.Thresholds[0], names[1])
	case bundle.KindLabels:
		var list []string
		for k, t := range o.Thresholds {
			name := strconv.Itoa(k)
			if names != nil {
				name = names[k]
			}
			list = append(list, fmt.Sprintf("%s from %g on", name, t))
		}
		text += ", " + strings.Join(list, ", ") + ", belonging not judged"
	case bundle.KindValues:
		text += ", no verdict: arrays only"
	default:
		if names == nil {
			text += ", no names"
		} else {
			text += " " + strings.Join(names, " ")
		}
	}
	if o.UnknownThreshold != nil {
		text += fmt.Sprintf(", unknown below %g", *o.UnknownThreshold)
	}
	if k := o.Known; k != nil {
		text += fmt.Sprintf(", %g of known traffic belongs", k.Pass)
	}
	if o.Temperature != 0 {
		text += fmt.Sprintf(", temperature %g", o.Temperature)
	}
	return text
}
