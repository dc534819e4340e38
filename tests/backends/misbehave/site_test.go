package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPagesAreServedWhenNothingIsWrong(t *testing.T) {
	s := begin(t)
	for path, want := range map[string]string{
		"/": "hello", "/healthz": `"UP"`, "/metrics": "process_uptime_seconds 61.25", "/actuator/health": `"UP"`,
		"/actuator/prometheus": "process_uptime_seconds", "/actuator": "/actuator/prometheus",
	} {
		if got := ask(t, "GET", s.url("main", path)); got.code != 200 || !strings.Contains(got.body, want) {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := ask(t, "GET", s.url("main", "/nothing")); got.code != 404 {
		t.Errorf("%+v", got)
	}
}

func TestAModeInThePathHoldsForThatRequest(t *testing.T) {
	s := begin(t)
	for path, code := range map[string]int{"/status/503": 503, "/status/204": 204, "/status/299/healthz": 299, "/status/404/actuator/prometheus": 404, "/status/x": 404} {
		if got := ask(t, "GET", s.url("main", path)); got.code != code {
			t.Errorf("%s: %+v", path, got)
		}
	}
	// Two modes in sequence.
	if got := ask(t, "GET", s.url("main", "/slow/first-byte;seconds=0/status/503/healthz")); got.code != 503 || !strings.Contains(got.body, "UP") {
		t.Errorf("%+v", got)
	}
}

func TestAModeThatIsSetHoldsBelowItsPathUntilItIsForgotten(t *testing.T) {
	s := begin(t, "--management", "127.0.0.1:0")
	code := func(port, path string) int { return ask(t, "GET", s.url(port, path)).code }
	ask(t, "GET", s.url("control", "/_/mode?set=status/503"))
	ask(t, "GET", s.url("control", "/_/mode?set=status/404&path=/actuator/prometheus&port=main"))
	for _, one := range []struct {
		port, path string
		code       int
	}{
		{"main", "/healthz", 503}, {"main", "/actuator/prometheus", 404}, {"main", "/actuator/prometheus/x", 404},
		{"main", "/actuator/prometheusx", 503}, {"management", "/actuator/prometheus", 503},
	} {
		if got := code(one.port, one.path); got != one.code {
			t.Errorf("%v: %d", one, got)
		}
	}
	ask(t, "GET", s.url("control", "/_/mode?set=ok"))
	if got := code("main", "/actuator/prometheus"); got != 200 {
		t.Errorf("%d", got)
	}
	if got := ask(t, "GET", s.url("control", "/_/mode?set=nonsense")); got.code != 400 || !strings.Contains(got.body, "no mode is named") {
		t.Errorf("%+v", got)
	}
}

func TestAModeCanHoldFromTheStart(t *testing.T) {
	s := begin(t, "--mode", "status/503;retry-after=7", "--management", "127.0.0.1:0")
	if got := ask(t, "GET", s.url("main", "/healthz")); got.code != 503 {
		t.Errorf("%+v", got)
	}
	if got := ask(t, "GET", s.url("management", "/healthz")); got.code != 200 {
		t.Errorf("%+v", got)
	}
	c, err := parse([]string{"--mode", "ok"}, func(name string) (string, bool) { return "hang", name == "MISBEHAVE_MODE" }, io.Discard)
	if err != nil || c.mode != "ok" {
		t.Errorf("a flag must win over the environment: %v %v", c.mode, err)
	}
	c, err = parse(nil, func(name string) (string, bool) { return "hang", name == "MISBEHAVE_MODE" }, io.Discard)
	if err != nil || c.mode != "hang" {
		t.Errorf("%v %v", c.mode, err)
	}
	if _, err := start(context.Background(), config{mode: "nonsense", managementMode: "ok", grpc: "serving"}); err == nil {
		t.Error("an unknown mode must be refused")
	}
}

func TestWhatHangsNeverAnswers(t *testing.T) {
	s := begin(t, "--management", "127.0.0.1:0")
	silent := func(port, path string) bool {
		_, err := tryAsk(moment, "GET", s.url(port, path))
		return errors.Is(err, context.DeadlineExceeded)
	}
	if !silent("main", "/hang") || !silent("main", "/slow/first-byte/healthz") || silent("main", "/healthz") {
		t.Error("only what was asked for hangs")
	}
	ask(t, "POST", s.url("control", "/_/hang?port=main"))
	if !silent("main", "/healthz") || !silent("main", "/_/mode?set=ok") {
		t.Error("the main port must hang, its control pages too")
	}
	ask(t, "GET", s.url("control", "/_/mode?set=ok"))
	if !silent("main", "/healthz") {
		t.Error("nothing but a restart cures it")
	}
	if got := ask(t, "GET", s.url("management", "/healthz")); got.code != 200 {
		t.Errorf("%+v", got)
	}
}

func TestOnlyTheMetricsPageIsSlow(t *testing.T) {
	s := begin(t, "--mode", "slow/metrics")
	if got := ask(t, "GET", s.url("main", "/actuator/health")); got.code != 200 {
		t.Errorf("%+v", got)
	}
	for _, path := range []string{"/metrics", "/actuator/prometheus"} {
		if _, err := tryAsk(moment, "GET", s.url("main", path)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestASlowBodyBeginsAtOnceAndDoesNotEnd(t *testing.T) {
	s := begin(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", s.url("main", "/slow/body;seconds=3600/metrics"), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil || response.StatusCode != 200 {
		t.Fatal(err)
	}
	time.AfterFunc(moment, cancel)
	if _, err := io.ReadAll(response.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := ask(t, "GET", s.url("main", "/slow/body;seconds=0/healthz")); !strings.Contains(got.body, "UP") {
		t.Errorf("%+v", got)
	}
}

func TestAClosedPortRefusesAndOpensAgain(t *testing.T) {
	s := begin(t, "--management", "127.0.0.1:0")
	refused := func() bool {
		_, err := tryAsk(patience, "GET", s.url("main", "/"))
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	ask(t, "POST", s.url("control", "/_/refuse?port=main"))
	await(t, "the port refuses", refused)
	if got := ask(t, "GET", s.url("management", "/")); got.code != 200 {
		t.Errorf("%+v", got)
	}
	ask(t, "POST", s.url("control", "/_/open?port=main"))
	if got := ask(t, "GET", s.url("main", "/")); got.code != 200 {
		t.Errorf("%+v", got)
	}
	ask(t, "POST", s.url("control", "/_/refuse?port=main&seconds=0.05"))
	await(t, "the port opened again by itself", func() bool { return !refused() })
}

func TestConnectionsEndAsAsked(t *testing.T) {
	s := begin(t)
	for path, want := range map[string]error{
		"/reset": syscall.ECONNRESET, "/close": io.EOF, "/half/metrics": io.ErrUnexpectedEOF,
		"/half/headers": io.ErrUnexpectedEOF, "/half/chunked": io.ErrUnexpectedEOF, "/half/reset/metrics": syscall.ECONNRESET,
	} {
		if got, err := tryAsk(patience, "GET", s.url("main", path)); !errors.Is(err, want) {
			t.Errorf("%s: %v, %+v", path, err, got)
		}
	}
	for _, path := range []string{"/not-http", "/not-http/tls", "/http/0.9", "/headers/huge;bytes=200000", "/headers/endless", "/canary/bad-header", "/headers/bad", "/headers/two-lengths", "/headers/interim"} {
		if got, err := tryAsk(patience, "GET", s.url("main", path)); err == nil {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := ask(t, "GET", s.url("main", "/http/1.0")); got.body != "hello\n" {
		t.Errorf("%+v", got)
	}
}

func TestBodiesAreNotWhatTheyShouldBe(t *testing.T) {
	s := begin(t)
	for path, kind := range map[string]string{
		"/content-type/none": "", "/content-type/json/metrics": "application/json", "/html": "text/html; charset=utf-8",
		"/content-type;value=text%2Fcsv/metrics": "text/csv",
	} {
		if got := ask(t, "GET", s.url("main", path)); got.header.Get("Content-Type") != kind || len(got.header["Content-Type"]) > 1 {
			t.Errorf("%s: %q", path, got.header["Content-Type"])
		}
	}
	if got := ask(t, "GET", s.url("main", "/huge?bytes=100")); len(got.body) != 100 {
		t.Errorf("%+v", got)
	}
	got := ask(t, "GET", s.url("main", "/gzip/bomb?bytes=20000000"))
	if len(got.body) > 100_000 {
		t.Errorf("a bomb of %d bytes is none", len(got.body))
	}
	reader, err := gzip.NewReader(strings.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, reader); n != 20_000_000 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	for _, path := range []string{"/endless", "/endless/line"} {
		response, err := http.Get(s.url("main", path))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.CopyN(io.Discard, response.Body, 20_000_000); n != 20_000_000 {
			t.Errorf("%s: %d %v", path, n, err)
		}
		_ = response.Body.Close()
	}
}

func TestCredentialsLetInAndAreNotRepeated(t *testing.T) {
	s := begin(t, "--bearer", "sesame", "--basic", "ali:baba")
	basic := func(pair string) string {
		request := http.Request{Header: http.Header{}}
		user, password, _ := strings.Cut(pair, ":")
		request.SetBasicAuth(user, password)
		return request.Header.Get("Authorization")
	}
	for _, one := range []struct {
		path, credentials string
		code              int
	}{
		{"/auth/bearer/healthz", "", 401}, {"/auth/bearer/healthz", "Bearer wrong", 401}, {"/auth/bearer/healthz", "Bearer sesame", 200},
		{"/auth/basic/healthz", "", 401}, {"/auth/basic/healthz", basic("ali:wrong"), 401}, {"/auth/basic/healthz", basic("ali:baba"), 200},
		{"/auth/forbidden", "Bearer sesame", 403},
	} {
		header := []string{}
		if one.credentials != "" {
			header = append(header, "Authorization", one.credentials)
		}
		got := ask(t, "GET", s.url("main", one.path), header...)
		if got.code != one.code || (got.code == 401) != (got.header.Get("WWW-Authenticate") != "") {
			t.Errorf("%v: %+v", one, got)
		}
		for _, secret := range []string{"sesame", "baba", "wrong"} {
			if strings.Contains(fmt.Sprint(got), secret) {
				t.Errorf("%v repeats %s", one, secret)
			}
		}
	}
}

func TestRedirectsLeadWhereTheyShould(t *testing.T) {
	s := begin(t)
	host := s.addresses["main"]
	for path, location := range map[string]string{
		"/redirect/loop": "/redirect/loop", "/redirect/metadata": "http://169.254.169.254/latest/meta-data/",
		"/redirect/login": "/login", "/redirect/https/metrics": "https://" + host + "/metrics",
		"/redirect/other-host/metrics": "http://backend.example.com/metrics", "/redirect/nowhere": "",
		"/redirect/chain;hops=2/healthz":                    "/redirect/chain;hops=1/healthz",
		"/redirect/to?location=http://192.0.2.1/x&code=307": "http://192.0.2.1/x",
	} {
		if got := ask(t, "GET", s.url("main", path)); got.header.Get("Location") != location || got.code/100 != 3 {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := ask(t, "GET", s.url("main", "/redirect/chain;hops=0/healthz")); got.code != 200 {
		t.Errorf("%+v", got)
	}
}

func TestWhatWasAskedIsRememberedWithoutSecrets(t *testing.T) {
	s := begin(t, "--bearer", "sesame")
	ask(t, "HEAD", s.url("main", "/metrics"), "Authorization", "Bearer sesame", "X-Other", "hidden")
	got := ask(t, "GET", s.url("control", "/_/requests"))
	var journal struct {
		Requests    []seen
		Connections map[string]int
	}
	if err := json.NewDecoder(strings.NewReader(got.body)).Decode(&journal); err != nil {
		t.Fatal(err)
	}
	one := journal.Requests[0]
	if len(journal.Requests) != 1 || one.Method != "HEAD" || one.Path != "/metrics" || one.Authorization != "Bearer" || !one.Right {
		t.Errorf("%+v", journal)
	}
	if journal.Connections["main"] != 1 || strings.Contains(got.body, "hidden") || strings.Contains(got.body, "sesame") {
		t.Errorf("%s", got.body)
	}
	ask(t, "DELETE", s.url("control", "/_/requests"))
	if got := ask(t, "GET", s.url("control", "/_/requests")); strings.Contains(got.body, "HEAD") {
		t.Errorf("%s", got.body)
	}
}

func TestMemoryIsTakenAndKept(t *testing.T) {
	s := begin(t)
	ask(t, "POST", s.url("control", "/_/leak?mebibytes=3"))
	await(t, "three mebibytes are held", func() bool {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		return len(s.leaked) == 3
	})
}

func TestEveryModeIsInTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range modeNames() {
		if !strings.Contains(string(readme), "`"+name) {
			t.Errorf("%s is not in the README", name)
		}
	}
	for name := range grpcAnswers {
		if !strings.Contains(string(readme), "`"+name+"`") {
			t.Errorf("the gRPC answer %s is not in the README", name)
		}
	}
}
