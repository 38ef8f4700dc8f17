package report_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"nepcoc/internal/testbrowser"
)

// look is what the page is asked about itself.
const look = `(() => {
	const bad = [], wide = innerWidth + 1;
	for (const f of document.querySelectorAll('[data-figure]')) {
		const b = f.getBoundingClientRect(), s = f.querySelector('svg');
		if (b.width < 40 || b.height < 30) bad.push(f.id + ' is empty');
		if (s && s.querySelectorAll('path,text').length < 10) bad.push(f.id + ' draws nothing');
		if (!s && !f.querySelector('tbody td')) bad.push(f.id + ' has no row');
		if (f.id !== 'checks' && !(f.querySelector('figcaption')?.textContent.match(/\d+ (labelled )?flow|no flow|class's flows|Gain/))) bad.push(f.id + ' does not say on how many flows it stands');
		for (const t of f.querySelectorAll('svg text')) {
			const r = t.getBoundingClientRect(), o = s.getBoundingClientRect();
			if (r.left < o.left - 1 || r.right > o.right + 1 || r.top < o.top - 1 || r.bottom > o.bottom + 1) bad.push(f.id + ': "' + t.textContent + '" leaves the figure');
		}
		const texts = [...f.querySelectorAll('svg text')].map(t => [t.textContent, t.getBoundingClientRect()]);
		texts.forEach(([a, p], i) => texts.slice(i + 1).forEach(([b, q]) => {
			if (p.left + 1 < q.right && q.left + 1 < p.right && p.top + 2 < q.bottom && q.top + 2 < p.bottom) bad.push(f.id + ': "' + a + '" lies on "' + b + '"');
		}));
	}
	if (document.documentElement.scrollWidth > wide) bad.push('the page is ' + document.documentElement.scrollWidth + ' pixels wide');
	// Contrast of text and lines against the page, by WCAG's relative luminance.
	const lum = c => { const [r, g, b] = c.match(/[\d.]+/g).slice(0, 3).map(x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
	const contrast = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05) };
	const page = getComputedStyle(document.body).backgroundColor;
	for (const e of document.querySelectorAll('svg text, h1, h2, p, li, figcaption, th, .name, .value, .on, a'))  {
		const c = getComputedStyle(e), k = contrast(e instanceof SVGElement ? c.fill : c.color, page);
		if (k < 4.5) bad.push(e.tagName + ' "' + e.textContent.slice(0, 30) + '" has a contrast of ' + k.toFixed(1));
	}
	// Coloured cells have a background of their own; color-mix computes to color(srgb r g b).
	for (const e of document.querySelectorAll('.matrix td')) {
		const c = getComputedStyle(e), n = c.backgroundColor.startsWith('color(') ? 'rgb(' + c.backgroundColor.match(/[\d.]+/g).slice(0, 3).map(x => x * 255) + ')' : c.backgroundColor;
		if (e.textContent && contrast(c.color, n) < 4.5) bad.push('cell ' + e.textContent + ' has a contrast of ' + contrast(c.color, n).toFixed(1));
	}
	return {bad, figures: [...document.querySelectorAll('[data-figure]')].map(f => f.id), dark: lum(page) < 0.2};
})()`

type seen struct {
	Bad     []string `json:"bad"`
	Figures []string `json:"figures"`
	Dark    bool     `json:"dark"`
}

// A report is looked at as readers look at it: light and dark, on a desk and on a phone, and printed.
func TestInBrowser(t *testing.T) {
	file := writeHTML(t)
	ctx := testbrowser.New(t)
	h := testbrowser.Listen(t, ctx)
	for _, width := range []int64{1280, 400} {
		for _, scheme := range []string{"light", "dark"} {
			testbrowser.Show(t, ctx, file, width, scheme)
			got := testbrowser.Run(t, ctx, chromedp.Evaluate[seen](look))
			for _, b := range got.Bad {
				t.Errorf("%d pixels, %s: %s", width, scheme, b)
			}
			if got.Dark != (scheme == "dark") {
				t.Errorf("%s: the page is dark: %v", scheme, got.Dark)
			}
			for _, want := range figures {
				if !strings.Contains(" "+strings.Join(got.Figures, " ")+" ", " "+want+" ") {
					t.Errorf("%d pixels, %s: there is no figure %s", width, scheme, want)
				}
			}
			testbrowser.Keep(t, "report-"+scheme+"-"+strconv.Itoa(int(width))+".png", testbrowser.Run(t, ctx, chromedp.FullScreenshot(100)))
		}
	}
	pdf := testbrowser.Run(t, ctx, chromedp.PrintToPDF())
	if len(pdf) < 10_000 || string(pdf[:5]) != "%PDF-" {
		t.Errorf("printed: %d bytes", len(pdf))
	}
	testbrowser.Keep(t, "report.pdf", pdf)
	h.Quiet(t, file)
}
