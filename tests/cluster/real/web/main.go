// Command web runs in pods of the selftest: it answers with its pod's name, fetches URLs, resolves names, allocates
// memory and ends on request.
//
//	web serve                  GET / answers the host name, /from the client's address, /fetch?url=URL what URL answers,
//	                           /lookup?name=NAME the name's addresses, /whoami the API server's name for the pod's user,
//	                           /eat allocates until it is stopped
//	web fail MESSAGE           prints the message and ends with status 7
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "fail" {
		fmt.Println(os.Args[2])
		os.Exit(7)
	}
	http.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(w, name)
	})
	http.HandleFunc("/from", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.RemoteAddr) })
	http.HandleFunc("/fetch", fetch)
	http.HandleFunc("/lookup", lookUp)
	http.HandleFunc("/whoami", whoAmI)
	http.HandleFunc("/eat", func(http.ResponseWriter, *http.Request) { eat() })
	// The first process of a container has no default action for signals.
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		<-asked
		os.Exit(0)
	}()
	fmt.Println("web: listening")
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

func fetch(w http.ResponseWriter, r *http.Request) {
	// One connection per request: a Service chooses a pod for each connection.
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(r.FormValue("url"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	io.Copy(w, io.LimitReader(response.Body, 1<<20))
}

func lookUp(w http.ResponseWriter, r *http.Request) {
	addresses, err := net.DefaultResolver.LookupHost(r.Context(), r.FormValue("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, strings.Join(addresses, " "))
}

// Uses the API server as every client in a cluster does: by name, with the mounted token and authority.
func whoAmI(w http.ResponseWriter, _ *http.Request) {
	const mounted = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token, err := os.ReadFile(mounted + "token")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	authority, err := os.ReadFile(mounted + "ca.crt")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	request, err := http.NewRequest(http.MethodPost,
		"https://kubernetes.default.svc.cluster.local/apis/authentication.k8s.io/v1/selfsubjectreviews",
		strings.NewReader(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	io.Copy(w, io.LimitReader(response.Body, 1<<20))
}

func eat() {
	var eaten [][]byte
	for {
		mouthful := make([]byte, 1<<20)
		for i := range mouthful {
			mouthful[i] = 1
		}
		eaten = append(eaten, mouthful)
		_ = eaten
	}
}
