package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"nepcoc/internal/testbrowser"
	"nepcoc/runtime/trust"
)

// busyAgent is an agent that sees flows.
type busyAgent struct {
	*simAgent
	asked atomic.Int64
}

func (b *busyAgent) Agent(ctx context.Context) Agent {
	a := b.simAgent.Agent(ctx)
	if a.Digest == "" {
		return a
	}
	n := float64(b.asked.Add(1))
	a.Packets += 200 * n
	a.Unknown = 2 * n
	a.Verdicts = map[string]float64{"web": 40 * n, "video": 25 * n, "a label of quite some length that has no place to be broken": 8 * n, "dns": 5 * n}
	return a
}

// lookAtFleet is what a page is asked about itself: whether all of it can be read without moving sideways, and be told from what is behind it (WCAG).
const lookAtFleet = `(() => {
	const bad = [], lum = c => { const [r, g, b] = c.match(/[\d.]+/g).slice(0, 3).map(x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
	const contrast = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05) };
	const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (c !== 'rgba(0, 0, 0, 0)') return c } return 'rgb(255, 255, 255)' };
	for (const e of document.querySelectorAll('h1, h2, h3, p, li, th, td, dt, dd, a, b, span, button, input, summary, svg text')) {
		const r = e.getBoundingClientRect();
		if (!r.width || !e.textContent.trim()) continue;
		const c = getComputedStyle(e), k = contrast(e instanceof SVGElement ? c.fill : c.color, behind(e));
		if (k < 4.5) bad.push(e.tagName + '.' + e.className + ' "' + e.textContent.trim().slice(0, 30) + '" has a contrast of ' + k.toFixed(1));
		if ((r.left < -1 || r.right > innerWidth + 1) && !e.closest('.scroll')) bad.push(e.tagName + ' "' + e.textContent.trim().slice(0, 30) + '" leaves the page');
	}
	if (document.documentElement.scrollWidth > innerWidth) bad.push('the page is ' + document.documentElement.scrollWidth + ' pixels wide');
	for (const s of document.querySelectorAll('.scroll')) if (s.querySelector('.stack') && innerWidth < 700 && s.scrollWidth > s.clientWidth) bad.push(s.id + ' must be moved sideways');
	for (const b of document.querySelectorAll('button:not(.plain)')) if (b.getBoundingClientRect().height < 40) bad.push('"' + b.textContent + '" is small for a finger');
	for (const s of document.querySelectorAll('figure > svg')) for (const t of s.querySelectorAll('text')) {
		const r = t.getBoundingClientRect(), o = s.getBoundingClientRect();
		if (r.left < o.left - 1 || r.right > o.right + 1 || r.bottom > o.bottom + 1) bad.push('"' + t.textContent + '" leaves its figure');
	}
	return [...new Set(bad)].slice(0, 10);
})()`

// An operator logs in, watches a rollout go on by itself on the page, approves a stage, halts it and takes it back, by clicks.
func TestPageInBrowser(t *testing.T) {
	ctx := testbrowser.New(t)
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	s := webServer(t, h)
	var agents []*simAgent
	for i := range 5 {
		a := &busyAgent{simAgent: newSimAgent()}
		agents = append(agents, a.simAgent)
		f.card(h.Client, "racks", fmt.Sprintf("card%d", i), a, func(o *CardOptions) { o.Report = 200 * time.Millisecond })
	}
	f.eventually(2*time.Minute, "reports", func() error {
		if g := (&web{h: h}).look().group("racks"); g == nil || g.Fresh != len(agents) {
			return errors.New("not all report")
		}
		return nil
	})
	data, first := signedBundle(t, 1, 1, signer)
	if _, err := h.Rollout(t.Context(), "racks", "test", data, first, "", quick(), quiet); err != nil {
		t.Fatal(err)
	}
	f.state(h.Client, "racks", Done)

	// How a page comes to say what it should, by itself.
	says := func(what, predicate string) {
		t.Helper()
		f.eventually(2*time.Minute, what, func() error {
			ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](predicate)) // a click may be loading another page: then there is an error
			if err == nil && !ok {
				err = errors.New("the page does not say so")
			}
			return err
		})
	}
	state := func(words string) string {
		return fmt.Sprintf("document.getElementById('state')?.textContent === %q", words)
	}
	// What comes from the hub may take an element's place between its being found and used.
	patient := func(act func() error) {
		t.Helper()
		err := act()
		for try := 0; try < 10 && err != nil && strings.Contains(err.Error(), "Could not find node"); try++ {
			err = act()
		}
		testbrowser.Must(t, err)
	}
	click := func(sel string) {
		t.Helper()
		patient(func() error { return chromedp.Do(ctx, chromedp.WaitVisible(sel), chromedp.Click(sel)) })
	}
	look := func(name string) {
		t.Helper()
		says("a page with its style", "document.readyState === 'complete'") // what is there can be seen before
		for _, width := range []int64{1280, 400} {
			for _, scheme := range []string{"light", "dark"} {
				testbrowser.Size(t, ctx, width, scheme)
				for _, b := range testbrowser.Run(t, ctx, chromedp.Evaluate[[]string](lookAtFleet)) {
					t.Errorf("%s, %d pixels, %s: %s", name, width, scheme, b)
				}
				if os.Getenv("NEPCOC_SHOTS") == "" {
					continue
				}
				testbrowser.Keep(t, "fleet-"+name+"-"+scheme+"-"+strconv.Itoa(int(width))+".png", testbrowser.Run(t, ctx, chromedp.FullScreenshot(100)))
			}
		}
		testbrowser.Size(t, ctx, 1280, "light")
	}

	heard := testbrowser.Listen(t, ctx)
	testbrowser.Size(t, ctx, 1280, "light")
	testbrowser.Must(t, chromedp.Do(ctx, chromedp.Navigate(s.URL+"/groups/racks"), chromedp.WaitVisible("#token")))
	look("login")
	testbrowser.Must(t, chromedp.Do(ctx, chromedp.SendKeys("#token", testToken)))
	click("form.login button")
	testbrowser.Must(t, chromedp.Do(ctx, chromedp.WaitVisible("#cards"))) // where the operator wanted to go
	click("nav a")
	testbrowser.Must(t, chromedp.Do(ctx, chromedp.WaitVisible("#groups")))
	says("groups", "document.querySelector('#groups [data-name=reporting]')?.textContent.trim() === '5'")
	look("groups")
	click("#groups a")
	testbrowser.Must(t, chromedp.Do(ctx, chromedp.WaitVisible("#cards")))
	says("a rollout that is done", state("done"))
	says("plots", "document.querySelectorAll('#mix figure').length === 2 && document.querySelectorAll('#mix polyline').length > 0")

	// Nobody loads the page again from here on: this mark would be lost.
	testbrowser.Run(t, ctx, chromedp.Evaluate[chromedp.Void]("window.same = true, undefined"))
	plan := quick()
	plan.Stages, plan.Approve = []Stage{{Cards: 1}, {Cards: 2}, {Cards: 3}, {Percent: 100}}, true
	back, err := trust.Rollback{From: 2, To: 1, Digest: first.Digest.String(), Reason: "test"}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	data, second := signedBundle(t, 2, 2, signer)
	if _, err := h.Rollout(t.Context(), "racks", "test", data, second, string(back), plan, quiet); err != nil {
		t.Fatal(err)
	}
	says("a rollout that waits", state("waits for approval")+" && window.same === true")
	says("what it is compared on", "/Compared on [\\d,]+ flows with [\\d,]+ before/.test(document.getElementById('rollout')?.textContent)")
	click("#approve")
	says("its second stage", "document.querySelectorAll('.stages .done').length === 2 && "+state("waits for approval"))
	look("waits")
	// What somebody types is not lost to what comes meanwhile: here another's approval, after which there are other buttons.
	patient(func() error {
		return chromedp.Do(ctx, chromedp.SendKeys("#actions input[name=reason]", "smells <b>odd</b>"))
	})
	if _, err := h.Approve(t.Context(), "racks"); err != nil {
		t.Fatal(err)
	}
	says("its third stage", "document.querySelectorAll('.stages .done').length === 3 && document.querySelector('#approve')?.textContent === 'Approve stage 4: 5 cards'")
	says("what was typed", "document.activeElement.name === 'reason' && document.activeElement.value === 'smells <b>odd</b>'")
	click("#halt")
	says("a halt, with its reason", state("halted")+" && document.querySelector('.reasons')?.textContent === 'smells <b>odd</b>'")
	look("halted")
	f.state(h.Client, "racks", Halted)
	click("#turn summary")
	click("#back")
	says("cards that went back", state("taken back"))
	r := f.state(h.Client, "racks", Returned)
	if r.Reached != 3 {
		t.Errorf("%d cards were reached", r.Reached)
	}
	for i, a := range agents {
		if d := a.Agent(t.Context()).Digest; d != first.Digest.String() {
			t.Errorf("card%d runs %s", i, d)
		}
	}
	click("#cards a")
	testbrowser.Must(t, chromedp.Do(ctx, chromedp.WaitVisible("#card dl")))
	look("card")
	heard.QuietAt(t, s.URL)

	// A page whose hub is gone says so. (That the browser complains of it is right.)
	s.CloseClientConnections()
	s.Listener.Close()
	says("a hub that is lost", "!document.getElementById('lost').hidden")
}
