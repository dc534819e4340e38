package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

func TestNobodyGetsThroughToTheBlackHole(t *testing.T) {
	s := begin(t, "--blackhole", "127.0.0.1:0")
	for range 3 {
		_, err := net.DialTimeout("tcp", s.addresses["blackhole"], moment)
		if late, ok := errors.AsType[net.Error](err); !ok || !late.Timeout() {
			t.Errorf("%v", err)
		}
	}
}

func TestTheNameServerFailsByName(t *testing.T) {
	s := begin(t, "--dns", "127.0.0.1:0", "--dns-answer", "192.0.2.10,192.0.2.11,2001:db8::1")
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.addresses["dns"])
	}}
	look := func(name string, within time.Duration) ([]string, *net.DNSError) {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		found, err := resolver.LookupHost(ctx, name)
		failure := new(net.DNSError)
		errors.As(err, &failure)
		return found, failure
	}
	if found, _ := look("backend.example.com.", patience); len(found) != 3 {
		t.Errorf("%v", found)
	}
	for _, name := range []string{"nxdomain.example.com.", "empty.example.com."} {
		if _, err := look(name, patience); !err.IsNotFound {
			t.Errorf("%s: %+v", name, err)
		}
	}
	if _, err := look("servfail.example.com.", patience); err.IsNotFound || err.IsTimeout || err.Err != "server misbehaving" {
		t.Errorf("%+v", err)
	}
	if _, err := look("silent.example.com.", moment); !err.IsTimeout {
		t.Errorf("%+v", err)
	}
}
