package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// seen is one request, without secrets: for tests of a prober's requests and their targets.
type seen struct {
	Port          string   `json:"port"`
	Method        string   `json:"method"`
	Path          string   `json:"path"`
	Host          string   `json:"host"`
	Protocol      string   `json:"protocol"`
	Accept        string   `json:"accept,omitempty"`
	UserAgent     string   `json:"user_agent,omitempty"`
	Authorization string   `json:"authorization,omitempty"` // its scheme only
	Right         bool     `json:"right,omitempty"`         // the credentials are those that auth/ accepts
	Headers       []string `json:"headers"`                 // names
}

// remembered is the number of stored requests; older ones are dropped.
const remembered = 1000

func (s *site) note(port string, r *http.Request) {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	one := seen{
		Port: port, Method: r.Method, Path: r.URL.Path, Host: r.Host, Protocol: r.Proto,
		Accept: r.Header.Get("Accept"), UserAgent: r.UserAgent(), Authorization: scheme,
		Right: s.letsIn(r, "bearer") || s.letsIn(r, "basic"), Headers: []string{},
	}
	for name := range r.Header {
		one.Headers = append(one.Headers, name)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.journal) >= remembered {
		s.journal = s.journal[1:]
	}
	s.journal = append(s.journal, one)
}

func (s *site) count(port string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.accepted[port]++
}

// serveControl serves /_/. Requests that change something need POST, except /_/mode, which a person types.
func (s *site) serveControl(w http.ResponseWriter, r *http.Request) {
	what, query := strings.TrimPrefix(r.URL.Path, "/_/"), r.URL.Query()
	reads := map[string]bool{"mode": true, "requests": true, "ready": true}
	if !reads[what] && r.Method != http.MethodPost {
		http.Error(w, "this wants POST", http.StatusMethodNotAllowed)
		return
	}
	switch what {
	case "ready":
		fmt.Fprintln(w, "ready")
	case "mode":
		s.serveMode(w, r)
	case "requests":
		s.serveJournal(w, r)
	case "hang":
		s.hangForGood(query.Get("port"))
		fmt.Fprintln(w, "hung from now on")
	case "refuse":
		s.refuse(w, query.Get("port"), query.Get("seconds"))
	case "open":
		for _, d := range s.named(query.Get("port")) {
			if err := d.open(context.Background()); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
		}
	case "crash", "exit":
		s.end(w, r, what)
	case "leak":
		go s.leak(number(query.Get("mebibytes"), -1))
		fmt.Fprintln(w, "leaking")
	default:
		http.NotFound(w, r)
	}
}

func (s *site) serveMode(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if mode := query.Get("set"); mode != "" {
		// Parameters may follow as ;key=value or as query parameters: /_/mode?set=slow/body&seconds=3.
		for key, values := range query {
			if key != "set" && key != "port" && key != "path" {
				mode += ";" + key + "=" + values[0]
			}
		}
		path := query.Get("path")
		if path == "" {
			path = "/"
		}
		for _, port := range ports(query.Get("port")) {
			if err := s.set(port, path, mode); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
	}
	if says := query.Get("grpc"); says != "" {
		if _, known := grpcAnswers[says]; !known {
			http.Error(w, "no such answer", http.StatusBadRequest)
			return
		}
		s.mutex.Lock()
		s.grpcSays = says
		s.mutex.Unlock()
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	writeJSON(w, map[string]any{"rules": s.rules, "grpc": s.grpcSays, "modes": modeNames()})
}

// serveJournal returns the requests so far; DELETE clears them.
func (s *site) serveJournal(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if r.Method == http.MethodDelete {
		s.journal, s.accepted = nil, map[string]int{}
	}
	journal := s.journal
	if journal == nil {
		journal = []seen{}
	}
	writeJSON(w, map[string]any{"requests": journal, "connections": s.accepted})
}

func (s *site) hangForGood(port string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, name := range ports(port) {
		s.hung[name] = true
	}
}

// refuse closes ports; with a number of seconds they open again after it.
func (s *site) refuse(w http.ResponseWriter, port, seconds string) {
	fmt.Fprintln(w, "closing")
	_ = http.NewResponseController(w).Flush()
	for _, d := range s.named(port) {
		// In a goroutine of its own: closing ends the connection of this request.
		go d.close()
		if wait := number(seconds, 0); wait > 0 {
			time.AfterFunc(time.Duration(wait*float64(time.Second)), func() { _ = d.open(context.Background()) })
		}
	}
}

// end crashes or exits. The body, or `message`, is the output of a crash.
func (s *site) end(w http.ResponseWriter, r *http.Request, how string) {
	query := r.URL.Query()
	code, message := s.config.exit, s.config.message
	if how == "exit" {
		code, message = 0, ""
	}
	if given := query.Get("message"); given != "" {
		message = given
	}
	if body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20)); err == nil && len(body) > 0 {
		message = string(body)
	}
	if given := query.Get("code"); given != "" {
		code = int(number(given, 1))
	}
	fmt.Fprintln(w, "ending")
	_ = http.NewResponseController(w).Flush()
	go crash(s.config, code, message)
}

// leak allocates memory, touches it and never frees it; without a limit until the process is killed for it.
func (s *site) leak(mebibytes float64) {
	for got := 0.0; mebibytes < 0 || got < mebibytes; got++ {
		chunk := make([]byte, 1<<20)
		for i := 0; i < len(chunk); i += os.Getpagesize() {
			chunk[i] = 1
		}
		s.mutex.Lock()
		s.leaked = append(s.leaked, chunk)
		s.mutex.Unlock()
	}
}

// ports are the ports of a control request: one, or both.
func ports(name string) []string {
	if name == "" {
		return []string{"main", "management"}
	}
	return []string{name}
}

func (s *site) named(port string) []*door {
	var found []*door
	for _, name := range ports(port) {
		if d, open := s.doors[name]; open {
			found = append(found, d)
		}
	}
	return found
}

func number(text string, otherwise float64) float64 {
	if value, err := strconv.ParseFloat(text, 64); err == nil {
		return value
	}
	return otherwise
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
