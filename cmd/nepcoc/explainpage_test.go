package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/chromedp/chromedp"

	"nepcoc/compiler/explain"
	"nepcoc/internal/testbrowser"
	why "nepcoc/runtime/explain"
)

// lookAtBytes is what a page of explain is asked about itself: whether everything can be read without moving sideways, each byte stands
// where it belongs, and text can be told from what is behind it (WCAG's contrast).
const lookAtBytes = `(() => {
	const bad = [], lum = c => { const [r, g, b] = c.slice(0, 3).map(x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
	const parts = c => c.match(/[\d.]+/g).map(Number), page = parts(getComputedStyle(document.body).backgroundColor);
	const contrast = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05) };
	for (const e of document.querySelectorAll('h1, h2, p, td, .dim, .at, b')) {
		const c = getComputedStyle(e), back = parts(c.backgroundColor), a = back.length > 3 ? back[3] : 1;
		const k = contrast(parts(c.color), page.slice(0, 3).map((x, i) => a * back[i] + (1 - a) * x));
		if (k < 4.5) bad.push(e.tagName + '.' + e.className + ' "' + e.textContent.slice(0, 20) + '" has a contrast of ' + k.toFixed(1));
		const r = e.getBoundingClientRect();
		if (r.left < 0 || r.right > innerWidth) bad.push(e.tagName + ' "' + e.textContent.slice(0, 20) + '" leaves the page');
		const text = document.createRange(); text.selectNodeContents(e);
		if (e.tagName === 'TD' && /%$/.test(e.textContent) && text.getClientRects().length > 1) bad.push('"' + e.textContent + '" is broken');
	}
	if (document.documentElement.scrollWidth > innerWidth) bad.push('the page is ' + document.documentElement.scrollWidth + ' pixels wide');
	for (const row of document.querySelectorAll('.row')) {
		const [at, h1, h2, t1, t2] = [...row.children].map(e => e.getBoundingClientRect()), narrow = h2.top > h1.top + 5;
		if (narrow !== innerWidth < 640) bad.push('halves of a row lie wrong at ' + innerWidth);
		if (Math.abs(t1.top - h1.top) > 5 || t2.width && Math.abs(t2.top - h2.top) > 5 || h1.left < at.right - 1 || t1.left < h1.right - 1) bad.push('a row is in disorder');
	}
	return {bad: [...new Set(bad)].slice(0, 8), bytes: document.querySelectorAll('.row > :nth-child(2) b, .row > :nth-child(3) b').length, levels: [1, 2, 3, 4].map(l => document.querySelectorAll('b.l' + l).length)};
})()`

// A page of explain can be read on a desk and on a phone, light and dark, whatever the shares.
func TestExplainPageInBrowser(t *testing.T) {
	packet := why.Packet{Number: 1, Side: "client"}
	o := explain.Why{Output: "app", Label: "a class with quite a long name", Against: "another", Margin: 5, Drop: 7, Bytes: 4}
	for i := range 77 {
		packet.Bytes = append(packet.Bytes, byte(i*7))
	}
	packet.Fields = []why.Field{{From: 0, To: 77, Name: "tls.handshake.extensions_server_name", Part: "payload"}}
	for i, share := range []float64{0.02, 0.2, 0.4, 0.9} {
		o.Ranges = append(o.Ranges, why.Range{Packet: 1, Side: "client", Stream: -1, Offset: 20 * i, Length: 1, Share: share, Fields: []string{packet.Fields[0].Name}})
	}
	o.Fields = []explain.FieldShare{{Name: packet.Fields[0].Name, Share: 1}}
	page, err := explainPage("demo", []*explain.Verdict{{Number: 3, Key: "TCP [2001:db8:1111:2222:3333:4444:5555:6666]:50000 > [2001:db8::1]:443", Reason: "tokens", Tokens: 77, Outputs: []explain.Why{o}, Packets: []why.Packet{packet}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "why.html")
	if err := os.WriteFile(file, page, 0o666); err != nil {
		t.Fatal(err)
	}
	ctx := testbrowser.New(t)
	h := testbrowser.Listen(t, ctx)
	for _, width := range []int64{1280, 400, 320} {
		for _, scheme := range []string{"light", "dark"} {
			testbrowser.Show(t, ctx, file, width, scheme)
			got := testbrowser.Run(t, ctx, chromedp.Evaluate[struct {
				Bad    []string `json:"bad"`
				Bytes  int      `json:"bytes"`
				Levels []int    `json:"levels"`
			}](lookAtBytes))
			for _, b := range got.Bad {
				t.Errorf("%d pixels, %s: %s", width, scheme, b)
			}
			if fmt.Sprint(got.Bytes, got.Levels) != "77 [2 2 2 2]" { // each in the digits and in the text
				t.Errorf("%d pixels, %s: %d bytes, by level %v", width, scheme, got.Bytes, got.Levels)
			}
			testbrowser.Keep(t, "explain-"+scheme+"-"+strconv.Itoa(int(width))+".png", testbrowser.Run(t, ctx, chromedp.FullScreenshot(100)))
		}
	}
	h.Quiet(t, file)
}
