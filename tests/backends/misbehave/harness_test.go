package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The timeout of an immediate event, on a loaded machine.
const patience = 20 * time.Second

// The time after which a missing answer counts as no answer.
const moment = 100 * time.Millisecond

// begin starts a server in this process, with these flags.
func begin(t *testing.T, flags ...string) *site {
	t.Helper()
	c, err := parse(append([]string{"--control", "127.0.0.1:0"}, flags...), func(string) (string, bool) { return "", false }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func (s *site) url(port, path string) string { return "http://" + s.addresses[port] + path }

// answer is a response with its body read.
type answer struct {
	code   int
	header http.Header
	body   string
}

// ask sends one request on a connection of its own, and follows no redirect.
func ask(t *testing.T, method, url string, header ...string) answer {
	t.Helper()
	got, err := tryAsk(patience, method, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tryAsk(within time.Duration, method, url string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	// The limit for endless headers: Go's own 10 MiB would take seconds to read.
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 1 << 16}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(body)}, err
}

// await polls until `holds` returns true.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// line returns one line of a text, counted from 1.
func line(text string, number int) string {
	scanner := bufio.NewScanner(strings.NewReader(text))
	for range number {
		scanner.Scan()
	}
	return scanner.Text()
}
