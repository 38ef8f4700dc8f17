package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"nepcoc/compiler/onnx"
	"nepcoc/internal/cli"
	"nepcoc/runtime/bundle"
)

// sizeFlags are the sizes of a model's dynamic dimensions.
type sizeFlags struct {
	length int
	dims   []string
}

func (f *sizeFlags) add(fl *pflag.FlagSet) {
	fl.IntVar(&f.length, "length", 0, "length of the inputs of a model that leaves it open")
	fl.StringArrayVar(&f.dims, "set-dim", nil, "NAME=SIZE of a dynamic dimension, by the name that refusals give it; once per dimension")
}

func (f *sizeFlags) options(changed func(string) bool) (onnx.Options, error) {
	o := onnx.Options{Length: f.length}
	check := func(flag string, n int) error {
		if n < 1 || n > bundle.MaxLength {
			return cli.UsageError("--%s: %d is not within 1..%d", flag, n, bundle.MaxLength)
		}
		return nil
	}
	if changed("length") {
		if err := check("length", f.length); err != nil {
			return o, err
		}
	}
	for _, d := range f.dims {
		i := strings.LastIndexByte(d, '=')
		n, err := 0, fmt.Errorf("no size")
		if i > 0 {
			n, err = strconv.Atoi(d[i+1:])
		}
		if err != nil {
			return o, cli.UsageError("--set-dim %q: want NAME=SIZE", d)
		}
		if err := check("set-dim "+d[:i], n); err != nil {
			return o, err
		}
		if _, twice := o.Sizes[d[:i]]; twice {
			return o, cli.UsageError("--set-dim: %s is given twice", d[:i])
		}
		if o.Sizes == nil {
			o.Sizes = make(map[string]int)
		}
		o.Sizes[d[:i]] = n
	}
	return o, nil
}
