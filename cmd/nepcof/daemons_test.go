package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What begins at servers that start, too, is tried again until they answer; what they refuse for good isn't.
func TestUntilThere(t *testing.T) {
	usual := againTime
	t.Cleanup(func() { againTime = usual })
	againTime = time.Millisecond
	refusal := &jetstream.APIError{Code: 500, Description: "replicas > 1 not supported in non-clustered mode"}
	for _, c := range []struct {
		answers []error
		want    error
	}{
		{[]error{context.DeadlineExceeded, fmt.Errorf("nepco-groups: %w", &jetstream.APIError{Code: 503}), nil}, nil},
		{[]error{context.DeadlineExceeded, fmt.Errorf("nepco-groups: %w", refusal)}, refusal},
	} {
		tries := 0
		_, err := untilThere(t.Context(), slog.New(slog.DiscardHandler), func() (int, error) {
			tries++
			return tries, c.answers[tries-1]
		})
		if !errors.Is(err, c.want) || tries != len(c.answers) {
			t.Errorf("%v after %d tries, want %v after %d", err, tries, c.want, len(c.answers))
		}
	}
}
