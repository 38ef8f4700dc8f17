// Package testbrowser looks at pages as their readers do: in Debian's chromium, at a width, light or dark.
package testbrowser

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
)

// New is a chromium without a window, for the length of a test.
func New(t *testing.T) context.Context {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testfiles.Tool(t, "chromium")), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.WSURLReadTimeout(2*time.Minute)) // of a machine with other work
	ctx, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	return ctx
}

// Heard collects what a page asks for and complains of.
type Heard struct {
	mu                   sync.Mutex
	requests, complaints []string
}

// Listen begins to collect.
func Listen(t *testing.T, ctx context.Context) *Heard {
	t.Helper()
	h := new(Heard)
	err := chromedp.Listen(ctx, func(ev any) {
		h.mu.Lock()
		defer h.mu.Unlock()
		switch ev := ev.(type) {
		case *network.EventRequestWillBeSent:
			h.requests = append(h.requests, ev.Request.URL)
		case *runtime.EventConsoleAPICalled:
			h.complaints = append(h.complaints, "console: "+string(ev.Type))
		case *runtime.EventExceptionThrown:
			h.complaints = append(h.complaints, ev.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			h.complaints = append(h.complaints, ev.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	Must(t, chromedp.Do(ctx, call(network.Enable, network.EnableParams{}), call(log.Enable, cdp.Empty{})))
	return h
}

// Quiet fails where the page of a file has asked for anything but itself, or the browser has complained.
func (h *Heard) Quiet(t *testing.T, file string) {
	t.Helper()
	h.quiet(t, func(url string) bool { return url == "file://"+file })
}

// QuietAt is Quiet for pages of a server, by its address.
func (h *Heard) QuietAt(t *testing.T, url string) {
	t.Helper()
	h.quiet(t, func(asked string) bool { return asked == url || strings.HasPrefix(asked, url+"/") })
}

func (h *Heard) quiet(t *testing.T, own func(url string) bool) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.requests {
		if !own(r) && !strings.HasPrefix(r, "data:") {
			t.Errorf("the page asks for %s", r)
		}
	}
	for _, c := range h.complaints {
		t.Errorf("the browser says: %s", c)
	}
}

// Show opens a file's page at a width, light or dark.
func Show(t *testing.T, ctx context.Context, file string, width int64, scheme string) {
	t.Helper()
	Size(t, ctx, width, scheme)
	Must(t, chromedp.Do(ctx, chromedp.Navigate("file://"+file)))
}

// Size makes the window so wide, light or dark.
func Size(t *testing.T, ctx context.Context, width int64, scheme string) {
	t.Helper()
	Must(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, 900),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})))
}

// call is a command whose result nobody wants.
func call[P, R any](cmd cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cmd, params)
		return err
	})
}

// Must fails the test on an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Run is what an action gives.
func Run[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	Must(t, err)
	return v
}

// Keep leaves a picture where NEPCOC_SHOTS names a folder, for eyes.
func Keep(t *testing.T, name string, data []byte) {
	t.Helper()
	if dir := os.Getenv("NEPCOC_SHOTS"); dir != "" {
		if err := files.Write(filepath.Join(dir, name), data); err != nil {
			t.Fatal(err)
		}
	}
}
