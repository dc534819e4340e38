package main

import (
	"encoding/json"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
)

func TestTheMetricsPageSpeaksBothFormats(t *testing.T) {
	s := begin(t)
	plain := ask(t, "GET", s.url("main", "/metrics"), "Accept", "text/plain;version=0.0.4")
	if plain.header.Get("Content-Type") != textType || strings.Contains(plain.body, "# EOF") || strings.Contains(plain.body, "trace_id") {
		t.Errorf("%+v", plain)
	}
	open := ask(t, "GET", s.url("main", "/metrics"), "Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
	if open.header.Get("Content-Type") != openMetricsType || !strings.HasSuffix(open.body, "# EOF\n") || !strings.Contains(open.body, "# {trace_id") {
		t.Errorf("%+v", open)
	}
}

func TestABrokenLineStandsWhereItWasAskedFor(t *testing.T) {
	s := begin(t)
	for kind, pattern := range brokenLines {
		got := ask(t, "GET", s.url("main", "/exposition/broken;kind="+kind+";line=7;text=here"))
		if want := strings.Replace(pattern, "%s", "here", 1); line(got.body, 7) != want || line(got.body, 6) != `good{line="6"} 5` {
			t.Errorf("%s: %s", kind, got.body)
		}
	}
	for kind := range openMetricsFaults {
		got := ask(t, "GET", s.url("main", "/exposition/broken;kind="+kind))
		if got.header.Get("Content-Type") != openMetricsType || strings.HasSuffix(got.body, "# EOF\n") && kind == "no-eof" {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	if got := ask(t, "GET", s.url("main", "/exposition/broken;kind=nonsense")); got.code != 404 {
		t.Errorf("%+v", got)
	}
}

func TestTheExpositionIsWrongAsAsked(t *testing.T) {
	s := begin(t)
	for path, holds := range map[string]func(string) bool{
		"/exposition/too-many?samples=12":        func(b string) bool { return strings.Count(b, "\n") == 12 },
		"/exposition/empty":                      func(b string) bool { return b == "" },
		"/exposition/invalid-utf8":               func(b string) bool { return strings.Contains(b, "\xff") },
		"/exposition/nul":                        func(b string) bool { return strings.Contains(b, "\x00") },
		"/exposition/crlf":                       func(b string) bool { return strings.Contains(b, "\r\n") },
		"/exposition/long-line?bytes=5000":       func(b string) bool { return len(b) > 5000 && strings.Count(b, "\n") == 1 },
		"/exposition/duplicate":                  func(b string) bool { return strings.Count(b, `good{line="1"}`) == 2 },
		"/exposition/missing?name=odd_values":    func(b string) bool { return !strings.Contains(b, "odd_values") && strings.Contains(b, "jvm_") },
		"/exposition/missing":                    func(b string) bool { return !strings.Contains(b, "misbehave_requests") },
		"/exposition/empty/actuator/prometheus":  func(b string) bool { return b == "" },
		"/exposition/missing/actuator/health":    func(b string) bool { return strings.Contains(b, "UP") },
		"/exposition/missing/actuator/nosuch":    func(b string) bool { return strings.Contains(b, "404") },
		"/gzip/exposition/empty/actuator/health": func(b string) bool { return strings.HasPrefix(b, "\x1f\x8b") },
	} {
		if got := ask(t, "GET", s.url("main", path)); !holds(got.body) {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestTheActuatorAnswersAsSpringBootDoes(t *testing.T) {
	s := begin(t)
	for name, variant := range springVariants {
		got := ask(t, "GET", s.url("main", "/spring/"+name+"/actuator/health"))
		want := map[string]int{"DOWN": 503, "OUT_OF_SERVICE": 503, "": 404}[variant.status]
		if want == 0 {
			want = 200
		}
		if variant.links != nil && len(variant.links) == 0 {
			want = 404
		}
		if got.code != want {
			t.Errorf("%s: %+v", name, got)
		}
		if want == 404 {
			continue
		}
		var said struct {
			Status              string
			Components, Details map[string]any
		}
		if err := json.Unmarshal([]byte(got.body), &said); err != nil {
			t.Fatal(err)
		}
		shown := said.Components
		if variant.old {
			shown = said.Details
		}
		if said.Status != variant.status || len(shown) != len(variant.components) {
			t.Errorf("%s: %s", name, got.body)
		}
	}
}

func TestTheLinksLeadToWhatIsThere(t *testing.T) {
	s := begin(t)
	for name, variant := range springVariants {
		if variant.gone || variant.foreign {
			continue
		}
		got := ask(t, "GET", s.url("main", "/spring/"+name+"/actuator"))
		var said struct {
			Links map[string]struct {
				Href      string
				Templated bool
			} `json:"_links"`
		}
		if err := json.Unmarshal([]byte(got.body), &said); err != nil {
			t.Fatal(err)
		}
		for link, to := range said.Links {
			if _, err := url.Parse(to.Href); err != nil {
				t.Error(err)
			}
			if to.Templated {
				continue
			}
			if code := ask(t, "GET", to.Href).code; code == 404 {
				t.Errorf("%s: %s leads nowhere: %s", name, link, to.Href)
			}
		}
		_, listed := said.Links["prometheus"]
		page := ask(t, "GET", s.url("main", "/spring/"+name+"/actuator/prometheus")).code == 200
		if listed != page && variant.mapped == "" {
			t.Errorf("%s: listed %v, served %v", name, listed, page)
		}
	}
	if got := ask(t, "GET", s.url("main", "/spring/liveness-broken/actuator/health/liveness")); got.code != 503 {
		t.Errorf("%+v", got)
	}
	if got := ask(t, "GET", s.url("main", "/spring/db-down/actuator/health/liveness")); got.code != 200 {
		t.Errorf("%+v", got)
	}
}

// raw reads the whole answer of a server to a plain request.
func raw(t *testing.T, s *site, path string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.addresses["main"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

func TestCanariesSingEverywhere(t *testing.T) {
	s := begin(t)
	for name := range canaryModes {
		if said := raw(t, s, "/"+name); !strings.Contains(said, "CANARY-") {
			t.Errorf("%s: %s", name, said)
		}
	}
	for path, places := range map[string][]string{
		"/canary/error":                     {"reason", "server", "header", "cookie", "body"},
		"/canary/redirect":                  {"user", "password", "host", "path", "query", "fragment"},
		"/canary/metrics":                   {"help", "label-value", "comment", "broken-line"},
		"/canary/unauthorized":              {"realm"},
		"/canary/actuator/actuator":         {"link-query", "link-user", "link-host", "link name", "link-script"},
		"/canary/actuator/actuator/health":  {"error", "jdbc-url", "component name!", "component-status"},
		"/canary/actuator/actuator/unknown": {"path"},
	} {
		said := raw(t, s, path)
		for _, place := range places {
			if !strings.Contains(said, canary(place)) {
				t.Errorf("%s: no canary at %s: %s", path, place, said)
			}
		}
	}
	if said := raw(t, s, "/canary/metrics"); !strings.Contains(line(said[strings.Index(said, "\r\n\r\n")+4:], 6), canary("broken-line")) {
		t.Errorf("%s", said)
	}
}
