package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The test's own program runs as misbehave if this variable is set.
func TestMain(m *testing.M) {
	if os.Getenv("BE_MISBEHAVE") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is misbehave as a separate process.
type process struct {
	command   *exec.Cmd
	addresses map[string]string
	errors    bytes.Buffer
}

func launch(t *testing.T, flags ...string) *process {
	t.Helper()
	p := &process{command: exec.Command(os.Args[0], flags...)}
	p.command.Env = append(os.Environ(), "BE_MISBEHAVE=yes")
	p.command.Stderr = &p.errors
	out, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.command.Process.Kill(); _ = p.command.Wait() })
	told, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(told), &p.addresses)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return p
}

func (p *process) code(t *testing.T) int {
	t.Helper()
	_ = p.command.Wait()
	return p.command.ProcessState.ExitCode()
}

func TestACrashSaysItsLastWords(t *testing.T) {
	last := filepath.Join(t.TempDir(), "termination-log")
	if err := os.WriteFile(last, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, "--termination-log", last)
	words := "APPLICATION FAILED TO START\n\nDescription:\n"
	response, err := http.Post("http://"+p.addresses["main"]+"/_/crash?code=3", "text/plain", strings.NewReader(words))
	if err == nil {
		_ = response.Body.Close()
	}
	if code := p.code(t); code != 3 || !strings.Contains(p.errors.String(), words) {
		t.Errorf("%d, %s", code, p.errors.String())
	}
	if got, err := os.ReadFile(last); string(got) != words {
		t.Errorf("%q %v", got, err)
	}
}

func TestAProcessEndsAsItIsTold(t *testing.T) {
	p := launch(t)
	response, err := http.Post("http://"+p.addresses["main"]+"/_/exit", "", nil)
	if err == nil {
		_ = response.Body.Close()
	}
	if code := p.code(t); code != 0 || p.errors.Len() > 0 {
		t.Errorf("%d, %s", code, p.errors.String())
	}
	p = launch(t, "--crash-after", "-1s", "--listen-after", "-1s", "--exit", "7", "--message", "no database")
	if code := p.code(t); code != 7 || p.errors.String() != "no database\n" {
		t.Errorf("%d, %s", code, p.errors.String())
	}
	p = launch(t)
	_ = p.command.Process.Signal(syscall.SIGTERM)
	if code := p.code(t); code != 0 {
		t.Errorf("%d", code)
	}
}

func TestACertificateIsAsWrongAsAsked(t *testing.T) {
	for kind, wanted := range map[string]string{
		"self-signed": "", "expired": "expired", "not-yet-valid": "not yet valid", "wrong-name": "any IP SANs",
		"client-certificate": "certificate required", "plain": "first record does not look like",
		"reset": "reset", "close": "EOF", "garbage": "first record does not look like",
	} {
		t.Run(kind, func(t *testing.T) {
			directory := t.TempDir()
			s := begin(t, "--tls", kind, "--tls-dir", directory)
			roots := x509.NewCertPool()
			if ca, err := os.ReadFile(filepath.Join(directory, "ca.crt")); err == nil {
				roots.AppendCertsFromPEM(ca)
			}
			err := shake(s, &tls.Config{RootCAs: roots})
			if wanted == "" && err != nil || wanted != "" && (err == nil || !strings.Contains(err.Error(), wanted)) {
				t.Errorf("%v", err)
			}
			if kind == "self-signed" {
				unknown := x509.UnknownAuthorityError{}
				if err := shake(s, &tls.Config{RootCAs: x509.NewCertPool()}); !errors.As(err, &unknown) {
					t.Errorf("without the CA: %v", err)
				}
			}
			if kind == "client-certificate" {
				own, err := tls.LoadX509KeyPair(filepath.Join(directory, "client.crt"), filepath.Join(directory, "client.key"))
				if err != nil {
					t.Fatal(err)
				}
				if err := shake(s, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}); err != nil {
					t.Errorf("with a certificate: %v", err)
				}
			}
		})
	}
	if _, err := start(context.Background(), config{mode: "ok", managementMode: "ok", grpc: "serving", listen: "127.0.0.1:0", tls: "nonsense"}); err == nil {
		t.Error("an unknown kind must be refused")
	}
}

// shake requests a page over TLS, and returns the error.
func shake(s *site, settings *tls.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", "https://"+s.addresses["main"]+"/healthz", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func TestTLSCanHangBeforeItBegins(t *testing.T) {
	s := begin(t, "--tls", "hang")
	c, err := net.Dial("tcp", s.addresses["main"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), moment)
	defer cancel()
	if err := tls.Client(c, &tls.Config{ServerName: "x"}).HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// check asks the gRPC health service about a service: its answer, and the status of the call.
func check(t *testing.T, s *site, path, service string) (serving int, status string) {
	t.Helper()
	message := []byte{}
	if service != "" {
		message = append([]byte{0x0a, byte(len(service))}, service...)
	}
	body := append([]byte{0, 0, 0, 0, byte(len(message))}, message...)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "POST", s.url("main", path), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/grpc")
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(said) == 7 {
		serving = int(said[6])
	}
	return serving, response.Trailer.Get("Grpc-Status")
}

func TestTheHealthServiceOfGRPCAnswers(t *testing.T) {
	s := begin(t)
	const path = "/grpc.health.v1.Health/Check"
	for _, one := range []struct {
		set, service string
		serving      int
		status       string
	}{
		{"serving", "", 1, "0"}, {"not-serving", "", 2, "0"}, {"unimplemented", "", 0, "12"}, {"serving", "not-serving", 2, "0"},
		{"serving", "nosuch", 0, "5"}, {"service-unknown", "", 3, "0"}, {"canary", "", 0, "2"},
	} {
		ask(t, "GET", s.url("control", "/_/mode?grpc="+one.set))
		if serving, status := check(t, s, path, one.service); serving != one.serving || status != one.status {
			t.Errorf("%+v: %d %s", one, serving, status)
		}
	}
	if _, status := check(t, s, "/other.Service/Call", ""); status != "12" {
		t.Errorf("%s", status)
	}
}
