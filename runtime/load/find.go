package load

// Find looks for the highest rate that holds: it doubles from low on until one does not, at most up to high, then halves the
// difference until it is below a share of the rate. try says whether a rate holds, and whether it could be offered at all: a rate that
// the sender can't keep bounds the search like one that does not hold. The result is 0 where none holds; limited tells that the bound was the sender's.
func Find(low, high, precision float64, try func(rate float64) (holds, offered bool, err error)) (best float64, limited bool, err error) {
	above := 0.0
	for rate := low; ; {
		holds, offered, err := try(rate)
		if err != nil {
			return best, limited, err
		}
		if holds && offered {
			best = rate
		} else {
			above, limited = rate, !offered
		}
		switch {
		case above == 0 && best >= high:
			return best, false, nil
		case above == 0:
			rate = min(2*rate, high)
		case best == 0 && above < low/16 || best > 0 && above-best <= precision*best:
			return best, limited, nil
		default:
			rate = (best + above) / 2
		}
	}
}
