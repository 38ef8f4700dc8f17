// Package interrupt undoes what a command has half done when a signal ends it:
// temporary files, copies on other machines.
package interrupt

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

var (
	mu   sync.Mutex
	list = map[int]func(){}
	next int
)

// Undo has f called if a signal ends the process before the returned function
// has been. Registered before the thing to undo exists, so f must bear that it
// does not.
func Undo(f func()) (done func()) {
	mu.Lock()
	defer mu.Unlock()
	id := next
	next++
	list[id] = f
	return func() {
		mu.Lock()
		defer mu.Unlock()
		delete(list, id)
	}
}

// Watch ends the process at SIGINT, SIGTERM and SIGHUP as if they were not
// caught, but after what is registered was undone. A second signal does not wait.
// A context that commands look at now and then was the alternative: whichever
// forgets to would not end.
func Watch() {
	c := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup
			signal.Notify(c, s)
		}
	}
	go func() {
		s := (<-c).(syscall.Signal)
		signal.Reset()
		mu.Lock() // and never unlocked: nothing new is begun
		for _, f := range list {
			f()
		}
		syscall.Kill(syscall.Getpid(), s) // so that a shell sees what ended us
	}()
}
