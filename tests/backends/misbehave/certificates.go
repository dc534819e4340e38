package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tlsModes are the kinds of --tls.
var tlsModes = []string{
	"self-signed", "expired", "not-yet-valid", "wrong-name", "client-certificate", "canary", "plain", "hang", "reset", "close", "garbage",
}

// issuer signs certificates.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// forge creates a CA, a certificate with the fault of --tls, and one for clients; it writes all of them to --tls-dir.
func forge(c config, address string) (*tls.Config, error) {
	if !slices.Contains(tlsModes, c.tls) {
		return nil, fmt.Errorf("--tls %q is none of %s", c.tls, strings.Join(tlsModes, ", "))
	}
	name := "misbehave test CA"
	if c.tls == "canary" {
		name = canary("issuer")
	}
	ca, err := authority(name)
	if err != nil {
		return nil, err
	}
	server := template("misbehave", time.Now().Add(-time.Hour), time.Now().Add(c.tlsValid))
	names(server, c, address)
	switch c.tls {
	case "expired":
		server.NotBefore, server.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	case "not-yet-valid":
		server.NotBefore, server.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	case "wrong-name":
		server.DNSNames, server.IPAddresses = []string{"other.example.com"}, nil
	case "canary":
		server.Subject.CommonName = canary("subject")
		server.Subject.Organization = []string{canary("organization")}
		server.DNSNames, server.IPAddresses = []string{canary("name") + ".example.com"}, nil
	}
	own, err := ca.issue(server)
	if err != nil {
		return nil, err
	}
	client, err := ca.issue(template("misbehave client", time.Now().Add(-time.Hour), time.Now().Add(c.tlsValid)))
	if err != nil {
		return nil, err
	}
	if err := write(c.tlsDirectory, ca, own, client); err != nil {
		return nil, err
	}
	settings := &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	if c.tls == "client-certificate" {
		settings.ClientAuth = tls.RequireAndVerifyClientCert
		settings.ClientCAs = x509.NewCertPool()
		settings.ClientCAs.AddCert(ca.certificate)
	}
	return settings, nil
}

func authority(name string) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(name, time.Now().Add(-72*time.Hour), time.Now().Add(10*365*24*time.Hour))
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature, nil
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &issuer{certificate, key}, err
}

func template(name string, from, until time.Time) *x509.Certificate {
	// 64 random bits: enough to be unique among a test's certificates.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		panic("the system has no random numbers: " + err.Error())
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (i *issuer) issue(t *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, i.certificate, key.Public(), i.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// names puts the names of --tls-names into a certificate, or by default this host's addresses.
func names(t *x509.Certificate, c config, address string) {
	wanted := strings.Split(c.tlsNames, ",")
	if c.tlsNames == "" {
		wanted = []string{"localhost", "127.0.0.1", "::1"}
		if host, _, err := net.SplitHostPort(address); err == nil {
			wanted = append(wanted, host)
		}
		if host, err := os.Hostname(); err == nil {
			wanted = append(wanted, host)
		}
		if addresses, err := net.InterfaceAddrs(); err == nil {
			for _, a := range addresses {
				wanted = append(wanted, strings.Split(a.String(), "/")[0])
			}
		}
	}
	for _, name := range wanted {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
}

func write(directory string, ca *issuer, server, client tls.Certificate) error {
	if directory == "" {
		return nil
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	for name, pair := range map[string]tls.Certificate{
		"ca": {Certificate: [][]byte{ca.certificate.Raw}, PrivateKey: ca.key}, "tls": server, "client": client,
	} {
		key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		if err != nil {
			return err
		}
		for file, block := range map[string]*pem.Block{
			name + ".crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, name + ".key": {Type: "PRIVATE KEY", Bytes: key},
		} {
			if err := os.WriteFile(filepath.Join(directory, file), pem.EncodeToMemory(block), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// spoilt is a listener whose connections end, or stop, before TLS begins.
func spoilt(l net.Listener, kind string) net.Listener {
	spoil := map[string]func(net.Conn){
		// Until the other side gives up: the garbage collector closes a connection without a reference.
		"hang":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"reset": func(c net.Conn) { readSome(c); reset(c) },
		"close": func(c net.Conn) { readSome(c); closeWriting(c) },
		"garbage": func(c net.Conn) {
			readSome(c)
			_, _ = c.Write([]byte("220 mail.example.com ESMTP\r\n"))
			closeWriting(c)
		},
	}[kind]
	if spoil == nil {
		return l
	}
	return &spoiltListener{Listener: l, spoil: spoil}
}

type spoiltListener struct {
	net.Listener
	spoil func(net.Conn)
}

// Accept hands nothing to the server: it spoils the connections itself. It returns when the listener is closed.
func (l *spoiltListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		go func() {
			defer c.Close()
			l.spoil(c)
		}()
	}
}

// readSome waits for the client's first bytes, so that the client sees the next event as an answer to them.
func readSome(c net.Conn) {
	_, _ = c.Read(make([]byte, 1024))
}
