// Command certificates writes what the parts of a test cluster use to know each
// other: a certificate authority for the API server and its clients, another for
// etcd, and the key that signs ServiceAccount tokens.
//
//	certificates -directory DIR [-name NAME]... [-client FILE=COMMON-NAME[,GROUP]...]...
//
// The directory must not exist. It is written beside its final place and renamed,
// so that a directory that is there is a complete one.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A cluster directory may be kept for long and its certificates are not renewed.
const validFor = 10 * 365 * 24 * time.Hour

// Clocks of virtual machines jump back now and then, after a resume for one.
const backdatedBy = time.Hour

type words []string

func (w *words) String() string     { return strings.Join(*w, " ") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

func main() {
	var names, clients words
	directory := flag.String("directory", "", "where to write; must not exist")
	flag.Var(&names, "name", "host name or address the API server is reached by (repeatable)")
	flag.Var(&clients, "client", "FILE=COMMON-NAME[,GROUP]...: a client certificate (repeatable)")
	flag.Parse()

	if err := run(*directory, names, clients); err != nil {
		fmt.Fprintln(os.Stderr, "certificates:", err)
		os.Exit(1)
	}
}

func run(directory string, names, clients []string) error {
	if directory == "" {
		return errors.New("-directory is missing")
	}
	if _, err := os.Lstat(directory); err == nil {
		return fmt.Errorf("%s is already there", directory)
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(directory), ".certificates-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished)

	if err := write(unfinished, names, clients); err != nil {
		return err
	}
	return os.Rename(unfinished, directory)
}

func write(dir string, names, clients []string) error {
	cluster, err := newAuthority(dir, "ca", "vigie-test")
	if err != nil {
		return err
	}
	if err := cluster.serving(dir, "apiserver", names); err != nil {
		return err
	}
	for _, client := range clients {
		file, subject, found := strings.Cut(client, "=")
		if !found {
			return fmt.Errorf("-client %q is not FILE=COMMON-NAME[,GROUP]", client)
		}
		who := strings.Split(subject, ",")
		if err := cluster.client(dir, file, pkix.Name{CommonName: who[0], Organization: who[1:]}); err != nil {
			return err
		}
	}

	// etcd knows no users: whoever it lets in reads every Secret. Its own authority
	// keeps the cluster's clients out.
	etcd, err := newAuthority(dir, "etcd-ca", "vigie-test-etcd")
	if err != nil {
		return err
	}
	if err := etcd.serving(dir, "etcd", []string{"127.0.0.1", "localhost"}); err != nil {
		return err
	}
	if err := etcd.client(dir, "etcd-client", pkix.Name{CommonName: "apiserver"}); err != nil {
		return err
	}

	tokens, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	return writeKey(dir, "service-account", tokens)
}

type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newAuthority(dir, file, name string) (*authority, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	certificate, key, err := sign(dir, file, template, nil)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, key}, nil
}

func (a *authority) serving(dir, file string, names []string) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: file},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// Said aloud (CA:FALSE): rustls refuses an authority's certificate as a server's.
		BasicConstraintsValid: true,
	}
	// etcd's gateway is a client of its own server and shows the server's certificate.
	if file == "etcd" {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	_, _, err := sign(dir, file, template, a)
	return err
}

func (a *authority) client(dir, file string, subject pkix.Name) error {
	template := &x509.Certificate{
		Subject:               subject,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	_, _, err := sign(dir, file, template, a)
	return err
}

// sign fills in what all certificates share and writes FILE.crt and FILE.key. Without
// an issuer the certificate signs itself.
func sign(dir, file string, template *x509.Certificate, issuer *authority) (*x509.Certificate, crypto.Signer, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template.SerialNumber = serial
	template.NotBefore = now.Add(-backdatedBy)
	template.NotAfter = now.Add(validFor)
	if issuer == nil {
		issuer = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, key.Public(), issuer.key)
	if err != nil {
		return nil, nil, fmt.Errorf("signing %s: %w", file, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	if err := writePEM(filepath.Join(dir, file+".crt"), "CERTIFICATE", der); err != nil {
		return nil, nil, err
	}
	return certificate, key, writeKey(dir, file, key)
}

func writeKey(dir, file string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, file+".key"), "PRIVATE KEY", der); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, file+".pub"), "PUBLIC KEY", public)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
