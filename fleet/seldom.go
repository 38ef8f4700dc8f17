package fleet

import (
	"log/slog"
	"sync"
	"time"
)

// seldom logs what others can bring about as often as they like: once in a while, with how often it was not said since.
type seldom struct {
	mu      sync.Mutex
	next    time.Time
	skipped uint64
}

// seldomTime is how long it is quiet after each.
const seldomTime = 5 * time.Second

func (s *seldom) warn(log *slog.Logger, text string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.next) {
		s.skipped++
		return
	}
	if s.skipped > 0 {
		args = append(args, "not_said_before", s.skipped)
	}
	log.Warn(text, args...)
	s.next, s.skipped = now.Add(seldomTime), 0
}
