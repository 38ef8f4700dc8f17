package fleet

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
)

const testToken, viewToken = "a token that is only for tests", "a token that lets look only"

var testTokens = WebTokens{testToken, viewToken}

// webServer is a hub's page at an address.
func webServer(t *testing.T, h *Hub) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h.newWeb(t.Context(), testTokens, 100*time.Millisecond, 50*time.Millisecond))
	t.Cleanup(s.Close)
	return s
}

// request asks with headers, given as "Name: value", and returns the answer's status and text; it follows nothing.
func request(t *testing.T, method, address, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a, string(text)
}

const bearer = "Authorization: Bearer " + testToken

// tell enters a report as if a card had sent it.
func tell(h *Hub, s Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cards.add(s.Group, s.Card, Member{})
	h.cards.groups[s.Group][s.Card] = s
	h.changes.Add(1)
}

// Nobody without the token sees or does anything, other pages' forms count for nothing, and a session ends.
func TestWebAccess(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	s := webServer(t, h)
	f.eventually(2*time.Minute, "hub", func() error {
		if a, text := request(t, "GET", s.URL+"/healthz", ""); a.StatusCode != 200 {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	tell(h, Status{Group: "racks", Card: "one"})
	for _, path := range []string{"/", "/groups/racks", "/groups/racks/one", "/events", "/api/groups", "/api/cards", "/metrics"} {
		for _, with := range [][]string{nil, {"Authorization: Bearer x"}, {"Authorization: " + testToken}, {"Cookie: nepcof=1"}, {"Cookie: nepcof=99999999999." + testToken}} {
			a, text := request(t, "GET", s.URL+path, "", with...)
			text = strings.ReplaceAll(text, url.QueryEscape(path), "") // what was asked is no secret
			if a.StatusCode != 401 && !(a.StatusCode == 303 && strings.HasPrefix(a.Header.Get("Location"), "/login")) || strings.Contains(text, "racks") {
				t.Errorf("%s with %q: %d %s", path, with, a.StatusCode, text)
			}
		}
		if path == "/events" {
			continue
		}
		a, text := request(t, "GET", s.URL+path, "", bearer)
		if a.StatusCode != 200 || !strings.Contains(text, "racks") {
			t.Errorf("%s with the token: %d %s", path, a.StatusCode, text)
		}
		if p := a.Header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "unsafe") {
			t.Errorf("%s: policy %q", path, p)
		}
	}
	if a, _ := request(t, "POST", s.URL+"/groups/racks/halt", "rollout=x"); a.StatusCode != 401 {
		t.Errorf("halt without a login: %d", a.StatusCode)
	}
	if a, _ := request(t, "POST", s.URL+"/login", "token=wrong"); a.StatusCode != 403 || len(a.Cookies()) > 0 {
		t.Errorf("a wrong token: %d %v", a.StatusCode, a.Cookies())
	}
	a, _ := request(t, "POST", s.URL+"/login", url.Values{"token": {testToken}}.Encode())
	if len(a.Cookies()) != 1 {
		t.Fatalf("login: %d %v", a.StatusCode, a.Cookies())
	}
	c := a.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || strings.Contains(c.Value, testToken) {
		t.Errorf("cookie %v", c)
	}
	cookie := "Cookie: " + c.Name + "=" + c.Value
	if a, _ := request(t, "GET", s.URL+"/", "", cookie); a.StatusCode != 200 {
		t.Errorf("after the login: %d", a.StatusCode)
	}
	// Who was asked for a token goes on to where they wanted to go, on this page and nowhere else.
	for to, want := range map[string]string{
		"/": "/", "/groups/racks": "/groups/racks", "/groups/racks/one": "/groups/racks/one", "/groups/racks?cards=all": "/groups/racks?cards=all", `/groups/a"><b>`: "/groups/a%22%3E%3Cb%3E",
		"": "/", "//evil.example/groups/x": "/", "https://evil.example/groups/x": "/", "https:/groups/x": "/", `/\evil.example/groups/`: "/", `\\evil.example`: "/", "javascript:/groups/x": "/", "/groups/../logout": "/",
		"/groups/%2e%2e/%2e%2e/x": "/", "/groups//evil.example": "/", "///evil.example/groups/": "/", "evil.example": "/", "@evil.example": "/", "/login?to=/login": "/", "/events": "/", "/groups/x\r\nSet-Cookie: a=b": "/",
		"/groups/" + strings.Repeat("a", 2000): "/",
	} {
		_, text := request(t, "GET", s.URL+"/login?"+url.Values{"to": {to}}.Encode(), "")
		if field := `name="to" type="hidden" value="` + html.EscapeString(want) + `"`; !strings.Contains(text, field) {
			t.Errorf("the form for %q has no %s: %s", to, field, text)
		}
		for token, status := range map[string]int{testToken: 303, "wrong": 403} {
			a, text := request(t, "POST", s.URL+"/login", url.Values{"token": {token}, "to": {to}}.Encode())
			if a.StatusCode != status || status == 303 && a.Header.Get("Location") != want || status == 403 && !strings.Contains(text, html.EscapeString(want)) {
				t.Errorf("a login for %q leads to %q (%d), not %q", to, a.Header.Get("Location"), a.StatusCode, want)
			}
		}
	}
	for from, want := range map[string]string{"/": "/login", "/groups/racks/one?cards=all": "/login?to=%2Fgroups%2Fracks%2Fone%3Fcards%3Dall"} {
		if a, _ := request(t, "GET", s.URL+from, ""); a.StatusCode != 303 || a.Header.Get("Location") != want {
			t.Errorf("%s leads to %d %q, not %q", from, a.StatusCode, a.Header.Get("Location"), want)
		}
	}
	// The same form from elsewhere, by what browsers say of where it comes from.
	for _, from := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: https://elsewhere.example", "Origin: null"} {
		if a, _ := request(t, "POST", s.URL+"/groups/racks/halt", "rollout=x", cookie, from); a.StatusCode != 403 {
			t.Errorf("halt with %s: %d", from, a.StatusCode)
		}
	}
	for _, from := range []string{"Sec-Fetch-Site: same-origin", "Origin: " + s.URL} {
		if a, text := request(t, "POST", s.URL+"/groups/racks/halt", "rollout=x", cookie, from); a.StatusCode != 409 || !strings.Contains(text, "moved on") {
			t.Errorf("halt with %s: %d %s", from, a.StatusCode, text)
		}
	}
	w := &web{tokens: testTokens}
	for until, want := range map[int64]bool{time.Now().Add(time.Hour).Unix(): true, time.Now().Add(-time.Second).Unix(): false} {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: cookieName, Value: session(testToken, until)})
		if got := w.rank(r, time.Now()); (got == actor) != want || got == viewer {
			t.Errorf("a session until %d has rank %v", until, got)
		}
		if (&web{tokens: WebTokens{"another token", viewToken}}).rank(r, time.Now()) != stranger {
			t.Error("a session outlives its token")
		}
	}
}

// Who came in by the token for looking sees everything and changes nothing, by form and as a bearer.
func TestWebViewer(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	s := webServer(t, h)
	tell(h, Status{Group: "racks", Card: "one"})
	h.mu.Lock()
	h.groups["racks"] = entry[Group]{Group{Version: version, Name: "racks", Rollout: &Rollout{ID: "now", State: Advancing, Plan: quick(), Cards: []string{"one"}, Reached: 1}}, 1}
	h.mu.Unlock()
	a, _ := request(t, "POST", s.URL+"/login", url.Values{"token": {viewToken}}.Encode())
	if len(a.Cookies()) != 1 || strings.Contains(a.Cookies()[0].Value, viewToken) {
		t.Fatalf("login: %d %v", a.StatusCode, a.Cookies())
	}
	for _, who := range []string{"Cookie: nepcof=" + a.Cookies()[0].Value, "Authorization: Bearer " + viewToken} {
		for _, path := range []string{"/", "/groups/racks", "/groups/racks/one", "/api/groups", "/api/cards", "/metrics"} {
			if a, text := request(t, "GET", s.URL+path, "", who); a.StatusCode != 200 || !strings.Contains(text, "racks") || strings.Contains(text, "/halt") {
				t.Errorf("%s: %d %s", path, a.StatusCode, text)
			}
		}
		for _, act := range []string{"halt", "back", "approve"} {
			if a, _ := request(t, "POST", s.URL+"/groups/racks/"+act, "rollout=now", who, "Sec-Fetch-Site: same-origin"); a.StatusCode != 403 {
				t.Errorf("%s: %d", act, a.StatusCode)
			}
		}
	}
	if _, text := request(t, "GET", s.URL+"/groups/racks", "", bearer); !strings.Contains(text, "/halt") {
		t.Error("who may act has no form")
	}
	// The files: made once, secret, and not alike.
	one, err := f.access.WebTokens()
	if again, err2 := f.access.WebTokens(); err != nil || err2 != nil || again != one || one.Act == one.View || len(one.View) < 40 {
		t.Errorf("%v, %v: %v %v", one, again, err, err2)
	}
	for _, name := range []string{fileWebToken, fileViewToken} {
		if info, err := os.Stat(f.access.file(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := os.WriteFile(f.access.file(fileViewToken), []byte(one.Act), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.access.WebTokens(); err == nil {
		t.Error("one token for both")
	}
}

// Page and colours are for everybody: text stands out from what is behind it (WCAG 2.1, 1.4.3: 4.5 to 1), and what can be used or looked at has a name.
func TestWebAccessible(t *testing.T) {
	schemes := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(string(webStyle), -1)
	if len(schemes) != 2 {
		t.Fatalf("%d schemes of colours", len(schemes))
	}
	luminance := func(hex string) (l float64) {
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			c := float64(n) / 255
			if c <= 0.04045 {
				l += weight * c / 12.92
			} else {
				l += weight * math.Pow((c+0.055)/1.055, 2.4)
			}
		}
		return l
	}
	for i, scheme := range schemes {
		colour := map[string]string{}
		for _, c := range regexp.MustCompile(`--(\w+): #([0-9a-f]{6})`).FindAllStringSubmatch(scheme[1], -1) {
			colour[c[1]] = c[2]
		}
		contrast := func(a, b string) float64 {
			x, y := luminance(colour[a]), luminance(colour[b])
			return (max(x, y) + 0.05) / (min(x, y) + 0.05)
		}
		for _, text := range []string{"text", "muted", "link", "good", "bad", "warn"} {
			for _, behind := range []string{"page", "card"} {
				if c := contrast(text, behind); c < 4.5 {
					t.Errorf("scheme %d: %s on %s: %.2f", i, text, behind, c)
				}
			}
		}
		for _, button := range []string{"link", "bad"} {
			if c := contrast("on", button); c < 4.5 {
				t.Errorf("scheme %d: a button of %s: %.2f", i, button, c)
			}
		}
	}
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	s := webServer(t, h)
	tell(h, Status{Group: "racks", Card: "one", Seen: time.Now(), Agent: Agent{Digest: "d", Verdicts: map[string]float64{"a": 1}}})
	h.mu.Lock()
	h.groups["racks"] = entry[Group]{Group{Version: version, Name: "racks", Rollout: &Rollout{ID: "now", State: Waiting, From: artifact(1), To: artifact(2), Plan: DefaultPlan(), Cards: []string{"one"}, Reached: 1}}, 1}
	h.mu.Unlock()
	for _, path := range []string{"/login", "/", "/groups/racks", "/groups/racks/one", "/groups/none"} {
		_, text := request(t, "GET", s.URL+path, "", bearer)
		if !strings.Contains(text, `<html lang="en">`) || strings.Count(text, "<h1>") != 1 || !regexp.MustCompile(`<title>[^<]+</title>`).MatchString(text) {
			t.Errorf("%s: no language, or not one heading and a title: %s", path, text)
		}
		for _, e := range regexp.MustCompile(`<(input|svg|progress)\b[^>]*>`).FindAllString(text, -1) {
			id := regexp.MustCompile(` id="(\w+)"`).FindStringSubmatch(e)
			if !regexp.MustCompile(` aria-label="[^"]+"| aria-hidden="true"| type="hidden"| hidden>`).MatchString(e) && (id == nil || !strings.Contains(text, `<label for="`+id[1]+`">`)) {
				t.Errorf("%s: %s has no name", path, e)
			}
		}
		if strings.Contains(text, `tabindex="`) || regexp.MustCompile(`<(div|span|p|td)[^>]* onclick`).MatchString(text) {
			t.Errorf("%s: what the keyboard does not reach", path)
		}
	}
}

// What cards and others say can't break the page: markup is text, names of any form have an address, numbers of any size are drawn.
func TestWebHostile(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	s := webServer(t, h)
	evil := "</script></style></title><script>alert(1)</script><img src=x onerror=alert(1)>\" ' onload=alert(1) x=\u202egnp.exe\x1b[2J\x00"
	now := time.Now().UTC()
	status := func(n float64) Status {
		return Status{Group: evil, Card: evil, At: now, Seen: now, Phase: Phase(evil), Reason: evil, Wanted: evil,
			Agent: Agent{Digest: evil, Problem: evil, Refused: evil, Verdicts: map[string]float64{evil: n, "a": 1e308, "b": -5}, Unknown: 1e308, Packets: 1e308, Dropped: 1e308, Latency: 1e308, Drift: true},
			Lines: Lines{Stored: 1 << 63, Dropped: 1}}
	}
	f.eventually(2*time.Minute, "hub", func() error {
		if why := h.deaf(); why != "" {
			return fmt.Errorf("%s", why)
		}
		return nil
	})
	hostile := Group{Version: version, Name: evil, Stable: Artifact{File: evil, Digest: evil, Name: evil}, Rollout: &Rollout{ID: evil, By: evil, To: Artifact{File: "f", Digest: evil, Name: evil},
		From: Artifact{File: "f", Name: evil}, Plan: DefaultPlan(), State: State(evil), Cards: []string{evil}, Reached: 1, Away: []string{evil}, Troubled: []string{evil}, Reasons: []string{evil}, Events: []Event{{now, evil}}}}
	tell(h, status(1))
	h.mu.Lock()
	h.groups[evil] = entry[Group]{hostile, 0}
	h.mu.Unlock()
	group := s.URL + "/groups/" + url.PathEscape(evil)
	f.eventually(2*time.Minute, "history", func() error {
		tell(h, status(float64(time.Now().UnixNano())))
		if _, text := request(t, "GET", group, "", bearer); !strings.Contains(text, "<polyline") && !strings.Contains(text, "<circle") {
			return fmt.Errorf("no figure yet")
		}
		return nil
	})
	for _, address := range []string{s.URL + "/", group, group + "/" + url.PathEscape(evil), s.URL + "/groups/" + url.PathEscape("<b>no")} {
		a, text := request(t, "GET", address, "", bearer)
		if a.StatusCode != 200 && !strings.HasSuffix(address, "no") {
			t.Errorf("%s: %d", address, a.StatusCode)
		}
		bare := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(text, `""`) // a form's hidden value is given back as it was
		for _, bad := range []string{"\u202e", "\x1b"} {
			if strings.Contains(bare, bad) {
				t.Errorf("%s shows %q", address, bad)
			}
		}
		for _, bad := range []string{"<script>", "<img", "\x00", "NaN", "Inf", "ZgotmplZ", "<b>no"} {
			if at := strings.Index(text, bad); at >= 0 {
				t.Errorf("%s has %q: …%s", address, bad, text[max(0, at-60):min(len(text), at+60)])
			}
		}
		for _, e := range regexp.MustCompile(`(?i)<[a-z][^>]* on[a-z]+=[^>]*>`).FindAllString(bare, -1) {
			t.Errorf("%s has a handler: %s", address, e)
		}
		if strings.Contains(text, "style=") {
			t.Errorf("%s has styles that the policy forbids", address)
		}
	}
	for _, path := range []string{"/api/groups", "/api/cards", "/api/cards?group=" + url.QueryEscape(evil)} {
		a, text := request(t, "GET", s.URL+path, "", bearer)
		if a.StatusCode != 200 || !json.Valid([]byte(text)) {
			t.Errorf("%s: %d %.300s", path, a.StatusCode, text)
		}
	}
	chosen := status(1)
	chosen.Card, chosen.Agent.Digest = "another", "chosen"
	tell(h, chosen)
	if a, text := request(t, "GET", s.URL+"/metrics", "", bearer); a.StatusCode != 200 || strings.Contains(text, "chosen") || !strings.Contains(text, `digest="other"`) {
		t.Errorf("metrics: %d %.300s", a.StatusCode, text)
	}
	// A document that can't be: whoever wrote it can't stop the hub or its page.
	for _, change := range []func(*Rollout){func(r *Rollout) { r.Reached = 5 }, func(r *Rollout) { r.Reached = -1 }, func(r *Rollout) { r.Stage = 9 }, func(r *Rollout) { r.Stage = -1 },
		func(r *Rollout) { r.State, r.Stage = Waiting, len(r.Plan.Stages)-1 }} {
		r := *hostile.Rollout
		change(&r)
		text, _ := json.Marshal(Group{Version: version, Name: "racks", Rollout: &r})
		if _, err := readGroup("racks", text); err == nil {
			t.Errorf("%d cards reached of %d, stage %d, %s: taken", r.Reached, len(r.Cards), r.Stage, r.State)
		}
	}
}

// Of a card that is silent nothing is praised, and of what was not counted nothing is said.
func TestWebSilence(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	s := webServer(t, h)
	stable := Artifact{File: "f", Digest: "d", Size: 1}
	agent := Agent{Digest: "d", Packets: 10, Verdicts: map[string]float64{"web": 10}}
	f.eventually(2*time.Minute, "hub", func() error {
		if why := h.deaf(); why != "" {
			return fmt.Errorf("%s", why)
		}
		return nil
	})
	now := time.Now().UTC()
	h.mu.Lock()
	h.groups["racks"] = entry[Group]{Group{Version: version, Name: "racks", Stable: stable}, 0}
	h.mu.Unlock()
	tell(h, Status{Group: "racks", Card: "well", Seen: now, Phase: Running, Wanted: "f", Agent: agent})
	tell(h, Status{Group: "racks", Card: "gone", Seen: now.Add(-10 * time.Minute), Phase: Running, Wanted: "f", Agent: agent})
	tell(h, Status{Group: "racks", Card: "idle", Seen: now, Phase: Running, Wanted: "f", Agent: Agent{Digest: "d"}})
	tell(h, Status{Group: "racks", Card: "mute", Seen: now, Phase: Placed, Wanted: "f", Agent: Agent{Problem: "no answer"}})
	tell(h, Status{Group: "racks", Card: "new"})
	_, text := request(t, "GET", s.URL+"/groups/racks", "", bearer)
	rows := map[string]string{}
	for _, row := range regexp.MustCompile(`(?s)<tr[^>]*>\s*<th><a href="/groups/racks/(\w+)">.*?</tr>`).FindAllStringSubmatch(text, -1) {
		rows[row[1]] = row[0]
	}
	for card, want := range map[string][]string{
		"well": {`class="good">running<`, `data-name="flows">10<`, `data-name="unknown">0 %<`},
		"gone": {`<tr class="old">`, "silent for 10 min; was running", `class="old"`},
		"idle": {`class="good">running<`, `data-name="unknown">–<`, `data-name="dropped">–<`, `data-name="p99">–<`},
		"mute": {"no answer", "not known"},
		"new":  {"has not reported", `class="none"`},
	} {
		for _, w := range want {
			if !strings.Contains(rows[card], w) {
				t.Errorf("%s: no %q in %s", card, w, rows[card])
			}
		}
	}
	for _, card := range []string{"gone", "mute", "new"} {
		if strings.Contains(rows[card], "good") {
			t.Errorf("%s is praised: %s", card, rows[card])
		}
	}
	for _, want := range []string{"those that report: 3 of 5 cards", "gone: silent for more than 60 s", "new: has not reported since its enrolment", "mute: agent has a problem: no answer"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	var got struct {
		Cards []struct {
			Card  string `json:"card"`
			Fresh bool   `json:"reporting"`
		} `json:"cards"`
	}
	_, api := request(t, "GET", s.URL+"/api/cards?group=racks", "", bearer)
	if err := json.Unmarshal([]byte(api), &got); err != nil || len(got.Cards) != 5 {
		t.Fatalf("%v: %s", err, api)
	}
	for _, c := range got.Cards {
		if c.Fresh != slices.Contains([]string{"well", "idle", "mute"}, c.Card) {
			t.Errorf("%s reports: %v", c.Card, c.Fresh)
		}
	}
	_, metrics := request(t, "GET", s.URL+"/metrics", "", bearer)
	for _, want := range []string{`nepcof_cards{group="racks",phase="running"} 2`, `nepcof_cards{group="racks",phase="silent"} 1`, `nepcof_cards{group="racks",phase="never"} 1`, `nepcof_cards_with_problem{group="racks",why="agent"} 1`,
		`nepcof_cards_running{digest="d",group="racks"} 2`, "nepcof_connected 1", "nepcof_reports_refused_total 0"} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
	// A page is told of changes.
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testToken)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	in := bufio.NewScanner(a.Body)
	for in.Scan() && in.Text() == "" || strings.HasPrefix(in.Text(), "retry") {
		tell(h, Status{Group: "racks", Card: "new"})
	}
	if in.Text() != "event: look" {
		t.Errorf("events: %q, %v", in.Text(), in.Err())
	}
	// Servers that are lost are told of at once.
	f.servers[0].Shutdown()
	f.eventually(2*time.Minute, "loss", func() error {
		if a, text := request(t, "GET", s.URL+"/healthz", ""); a.StatusCode != 503 {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	for _, path := range []string{"/", "/groups/racks"} {
		if _, text := request(t, "GET", s.URL+path, "", bearer); !strings.Contains(text, "no connection to the fleet&#39;s servers") {
			t.Errorf("%s does not say that the hub is cut off", path)
		}
	}
}

// The page is served under the fleet's own certificate, with a token that the first start makes.
func TestServeWeb(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.ServeWeb(t.Context(), l) }()
	var token string
	f.eventually(2*time.Minute, "token", func() error {
		text, err := os.ReadFile(filepath.Join(f.dir, "fleet", fileWebToken))
		if token = strings.TrimSpace(string(text)); err == nil && token == "" {
			err = errors.New("it is being written")
		}
		return err
	})
	if info, err := os.Stat(filepath.Join(f.dir, "fleet", fileWebToken)); err != nil || info.Mode().Perm() != 0o600 || len(token) < 40 {
		t.Errorf("%v %v: %d characters", info, err, len(token))
	}
	if again, err := f.access.WebTokens(); err != nil || again.Act != token {
		t.Errorf("%v: another token", err)
	}
	authorities, err := f.access.authorities()
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}}
	defer transport.CloseIdleConnections()
	c := http.Client{Jar: jar, Transport: transport}
	a, err := c.PostForm("https://"+l.Addr().String()+"/login", url.Values{"token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if text, err := io.ReadAll(a.Body); err != nil || a.StatusCode != 200 || !strings.Contains(string(text), "No card was enrolled yet") {
		t.Errorf("%d %v: %s", a.StatusCode, err, text)
	}
	if p, err := http.Get("http://" + l.Addr().String() + "/"); err == nil {
		p.Body.Close()
		if p.StatusCode != 400 {
			t.Errorf("without TLS: %d", p.StatusCode)
		}
	}
	select {
	case err := <-done:
		t.Errorf("ended: %v", err)
	default:
	}
}

// A history is of what came while it was kept, whatever counts began anew, and stays within its bounds.
func TestHistory(t *testing.T) {
	h := &history{step: 1, last: map[string]counted{}, labels: map[string]bool{}}
	at := time.Unix(0, 0)
	step := func(cards map[string]Status) {
		h.add(cards, at, at.Add(historyStep))
		at = at.Add(historyStep)
	}
	card := func(since int64, digest string, a, unknown float64) map[string]Status {
		return map[string]Status{"c": {Seen: at, Agent: Agent{Digest: digest, Since: time.Unix(since, 0), Verdicts: map[string]float64{"a": a}, Unknown: unknown}}}
	}
	step(card(1, "x", 1000, 500)) // when it counted these is not known
	if h.chart() != nil {
		t.Error("what was counted before is drawn")
	}
	step(card(1, "x", 1030, 510))
	step(card(2, "y", 7, 3)) // another bundle
	step(card(2, "y", 7, 3)) // nothing came
	step(nil)
	step(card(2, "y", 8, 3))
	want := []float64{0, 40, 10, 0, 0, 1}
	for i, p := range h.points {
		if p.flows() != want[i] {
			t.Errorf("step %d: %v flows, want %v", i, p.flows(), want[i])
		}
	}
	c := h.chart()
	if c.Flows != 51 || len(c.Columns) != 3 || len(c.Unknown) != 1 || len(c.Dots) != 1 {
		t.Errorf("%+v", c)
	}
	total := 51.0
	for i := range 3000 {
		v := map[string]float64{}
		for l := range 100 {
			v[fmt.Sprint("label", l)] = float64(i + 1)
		}
		step(map[string]Status{"d": {Seen: at, Agent: Agent{Digest: "z", Verdicts: v}}})
		if i > 0 {
			total += 100
		}
		if len(h.points) > historyPoints || len(h.labels) > historyLabels {
			t.Fatalf("%d points, %d labels", len(h.points), len(h.labels))
		}
	}
	c = h.chart()
	if c.Flows != total || !c.From.Equal(time.Unix(0, 0)) || !c.To.Equal(at) || len(c.Legend) != shownLabels+2 {
		t.Errorf("%v flows of %v from %v to %v, %d labels", c.Flows, total, c.From, c.To, len(c.Legend))
	}
	for _, col := range c.Columns {
		high := 0.0
		for _, p := range col.Parts {
			high += p.H
			if p.Y < chartTop-0.1 || p.Y+p.H > chartBottom+0.2 {
				t.Errorf("a part from %v to %v", p.Y, p.Y+p.H)
			}
		}
		if high < chartBottom-chartTop-1 || high > chartBottom-chartTop+1 {
			t.Errorf("parts of %v in all", high)
		}
	}
}

// Each metric of the hub is in its page.
func TestHubMetricsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testfiles.Root(t), "docs", "fleet-page.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range hubMetricNames {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/fleet-page.md does not have %s", name)
		}
	}
	for _, m := range regexp.MustCompile("`(nepcof_[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(hubMetricNames, m[1]) && !strings.HasPrefix(m[1], "nepcof_sink_") { // those are of cmd/nepcof
			t.Errorf("docs/fleet-page.md has %s, which isn't there", m[1])
		}
	}
}

// Who follows docs/fleet.md brings an operator all that commands read.
func TestOperatorFilesInDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range OperatorFiles {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/fleet.md does not name %s", name)
		}
	}
}

// docs/fleet-page.md has every field of the API.
func TestWebFields(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testfiles.Root(t), "docs", "fleet-page.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] || typ == reflect.TypeFor[time.Time]() {
			return
		}
		seen[typ] = true
		for _, f := range reflect.VisibleFields(typ) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && !strings.Contains(string(text), "`"+name+"`") {
				t.Errorf("docs/fleet-page.md does not have %s of %v", name, typ)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[groupJSON]())
	walk(reflect.TypeFor[cardJSON]())
	if len(seen) < 10 {
		t.Errorf("%d kinds of objects", len(seen))
	}
}
