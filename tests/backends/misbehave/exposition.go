package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// expositionVariant selects the fault of the metrics page; the zero value is none.
type expositionVariant struct {
	kind string
}

// brokenLines are lines that no parser may accept, by kind. %s is the place of `text`.
var brokenLines = map[string]string{
	"no-value":        "broken%s",
	"bad-value":       "broken notanumber%s",
	"bad-name":        "1broken%s 1",
	"bad-label":       `broken{1a="%s"} 1`,
	"unquoted-label":  "broken{a=b%s} 1",
	"unclosed-quote":  `broken{a="b%s} 1`,
	"unclosed-brace":  `broken{a="b%s" 1`,
	"bad-timestamp":   "broken 1 soon%s",
	"trailing":        "broken 1 1760000000000 extra%s",
	"bad-type":        "# TYPE broken nonsense%s",
	"html":            "<html><body>%s</body></html>",
	"json":            `{"status":"UP","text":"%s"}`,
	"space-in-name":   "broken name%s 1 2 3",
	"equals":          "broken = 1%s",
	"only-labels":     `{a="%s"}`,
	"stray-semicolon": "broken;%s 1",
}

// openMetricsFaults are faults in OpenMetrics only, which is then served whatever the client accepts.
var openMetricsFaults = map[string]string{
	"no-eof":       "",
	"after-eof":    "# EOF\nbroken 1\n",
	"empty-line":   "\n# EOF\n",
	"bad-exemplar": "broken_bucket{le=\"1\"} 1 # broken\n# EOF\n",
}

var expositionModes = map[string]mode{
	// kind: one of brokenLines or openMetricsFaults; line: its number; text: its additional text.
	"exposition/broken":       exposition("broken"),
	"exposition/invalid-utf8": exposition("invalid-utf8"),
	"exposition/nul":          exposition("nul"),
	"exposition/too-many":     exposition("too-many"),
	"exposition/missing":      exposition("missing"),
	"exposition/empty":        exposition("empty"),
	"exposition/long-line":    exposition("long-line"),
	"exposition/duplicate":    exposition("duplicate"),
	"exposition/crlf":         exposition("crlf"),
}

func exposition(kind string) mode {
	return func(v *visit) {
		v.exposition.kind, v.page = kind, metricsPage
		v.serve()
	}
}

const (
	textType        = "text/plain; version=0.0.4; charset=utf-8"
	openMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// sample is a series of the good page, of a kind that both formats have.
type sample struct{ name, labels, value string }

// goodSamples resemble the export of Spring Boot.
var goodSamples = []struct {
	family, kind, help string
	samples            []sample
}{
	{"application_ready_time_seconds", "gauge", "Time taken for the application to be ready to service requests", []sample{
		{"application_ready_time_seconds", `{main_application_class="dev.vigie.backend.Application"}`, "1.842"},
	}},
	{"http_server_requests_seconds", "summary", "", []sample{
		{"http_server_requests_seconds_count", `{method="GET",outcome="SUCCESS",status="200",uri="/"}`, "42"},
		{"http_server_requests_seconds_sum", `{method="GET",outcome="SUCCESS",status="200",uri="/"}`, "0.631"},
	}},
	{"jvm_memory_used_bytes", "gauge", "The amount of used memory", []sample{
		{"jvm_memory_used_bytes", `{area="heap",id="G1 Eden Space"}`, "2.097152E7"},
		{"jvm_memory_used_bytes", `{area="heap",id="G1 Old Gen"}`, "1.6384E7"},
	}},
	{"process_uptime_seconds", "gauge", "The uptime of the Java virtual machine", []sample{
		{"process_uptime_seconds", "", "61.25"},
	}},
	{"odd_values", "gauge", "escapes: \\\\ and \\n", []sample{
		{"odd_values", `{a="quote \" backslash \\ newline \n",b="ünïcödé"}`, "NaN"},
		{"odd_values", `{a="",b="x"}`, "+Inf"},
	}},
}

// metrics renders the page in either format; the family named `without` has no head.
func metrics(open bool, without string) string {
	var page strings.Builder
	for _, family := range goodSamples {
		if family.family == without {
			continue
		}
		if family.help != "" {
			fmt.Fprintf(&page, "# HELP %s %s\n", family.family, family.help)
		}
		fmt.Fprintf(&page, "# TYPE %s %s\n", family.family, family.kind)
		for _, one := range family.samples {
			fmt.Fprintf(&page, "%s%s %s\n", one.name, one.labels, one.value)
		}
	}
	// The two formats differ here: a counter's family has no suffix in OpenMetrics, and exemplars exist.
	family, exemplar := "misbehave_requests_total", ""
	if open {
		family, exemplar = "misbehave_requests", ` # {trace_id="0af7651916cd43dd"} 1.0 1760000000.123`
	}
	if without != "misbehave_requests_total" {
		fmt.Fprintf(&page, "# TYPE %s counter\nmisbehave_requests_total 7.0%s\n", family, exemplar)
	}
	return page.String()
}

// goodPage has this many lines of valid exposition.
func goodPage(lines int) string {
	var page strings.Builder
	for n := range lines {
		fmt.Fprintf(&page, "good{line=\"%d\"} %d\n", n+1, n)
	}
	return page.String()
}

func (v *visit) serveMetrics() {
	open := wantsOpenMetrics(v.r)
	kind := v.parameter("kind", "no-value")
	_, onlyOpen := openMetricsFaults[kind]
	broken := v.exposition.kind == "broken"
	if broken && onlyOpen {
		open = true
	}
	body, err := v.expositionBody(open, kind)
	if err != nil {
		http.Error(v.w, err.Error(), http.StatusNotFound)
		return
	}
	if open && !(broken && onlyOpen) {
		body += "# EOF\n"
	}
	v.w.Header().Set("Content-Type", textType)
	if open {
		v.w.Header().Set("Content-Type", openMetricsType)
	}
	_, _ = io.WriteString(v.w, body)
}

func wantsOpenMetrics(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/openmetrics-text")
}

func (v *visit) expositionBody(open bool, kind string) (string, error) {
	line := int(v.number("line", 3))
	switch v.exposition.kind {
	case "broken":
		if fault, known := openMetricsFaults[kind]; known {
			return metrics(true, "") + fault, nil
		}
		pattern, known := brokenLines[kind]
		if !known {
			known := slices.Sorted(maps.Keys(brokenLines))
			return "", fmt.Errorf("no broken line is of the kind %q; there are: %s", kind, strings.Join(known, ", "))
		}
		return goodPage(line-1) + fmt.Sprintf(pattern, v.parameter("text", "")) + "\n" + goodPage(3), nil
	case "invalid-utf8":
		return goodPage(line-1) + "broken{a=\"\xff\xfe\"} 1\n", nil
	case "nul":
		return goodPage(line-1) + "broken{a=\"\x00\"} 1\n", nil
	case "too-many":
		return goodPage(int(v.number("samples", 100_000))), nil
	case "missing":
		return metrics(open, v.parameter("name", "misbehave_requests_total")), nil
	case "empty":
		return "", nil
	case "long-line":
		return fmt.Sprintf("long{a=\"%s\"} 1\n", strings.Repeat("a", int(v.number("bytes", 1<<20)))), nil
	case "duplicate":
		return goodPage(2) + goodPage(2), nil
	case "crlf":
		return strings.ReplaceAll(metrics(open, ""), "\n", "\r\n"), nil
	}
	return metrics(open, ""), nil
}
