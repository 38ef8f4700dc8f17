package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"nepcoc/internal/cli"
	"nepcoc/internal/files"
)

// only keeps a folder for one program until it is closed, or the process ends: two that write there would write over each other.
func only(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, files.Reason(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, files.Reason(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: another nepcof works there: end it, or name another folder", cli.Name(dir))
		}
		return nil, fmt.Errorf("%s: %w", cli.Name(dir), err)
	}
	return f, nil
}
