// Spoil writes a bundle whose golden vectors don't hold, under a good signature: what a card must find out by itself.
//
//	spoil IN KEY SERIAL OUT
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

func main() {
	if err := spoil(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "spoil:", err)
		os.Exit(1)
	}
}

func spoil(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: spoil IN KEY SERIAL OUT")
	}
	b, err := files.Read(args[0], bundle.Read)
	if err != nil {
		return err
	}
	key, err := files.Read(args[1], bundle.ReadPrivateKey)
	if err != nil {
		return err
	}
	serial, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	if len(b.Golden) == 0 {
		return fmt.Errorf("%s: has no golden vectors", args[0])
	}
	b.Golden[0].Logits[0][0] ^= 1
	data, err := bundle.Encode(b, bundle.Options{})
	if err == nil {
		data, err = bundle.Sign(data, key, bundle.Statement{Serial: serial})
	}
	if err != nil {
		return err
	}
	return files.Write(args[3], data)
}
