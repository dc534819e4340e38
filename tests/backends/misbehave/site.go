package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// site is one process: the settings of its ports, and the requests that they saw.
type site struct {
	config    config
	addresses map[string]string
	doors     map[string]*door
	closers   []func()
	shut      chan struct{} // closed at the end: hanging requests then stop

	mutex    sync.Mutex
	rules    []rule
	hung     map[string]bool // ports that answer nothing until the process ends
	grpcSays string
	journal  []seen
	accepted map[string]int
	leaked   [][]byte
}

// rule is a mode for every request of a port below a path.
type rule struct {
	Port string `json:"port"`
	Path string `json:"path"`
	Mode string `json:"mode"`
}

// door is a port that can be closed and opened again.
type door struct {
	name, address string
	site          *site
	handler       http.Handler

	mutex  sync.Mutex
	server *http.Server
}

func start(ctx context.Context, c config) (*site, error) {
	s := &site{
		config: c, addresses: map[string]string{}, doors: map[string]*door{}, shut: make(chan struct{}),
		hung: map[string]bool{}, grpcSays: c.grpc, accepted: map[string]int{},
	}
	if _, known := grpcAnswers[c.grpc]; !known {
		return nil, fmt.Errorf("--grpc %q is none of its answers", c.grpc)
	}
	for port, mode := range map[string]string{"main": c.mode, "management": c.managementMode} {
		if err := s.set(port, "/", mode); err != nil {
			return nil, err
		}
	}
	err := s.open(ctx)
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *site) open(ctx context.Context) error {
	for name, address := range map[string]string{
		"main": s.config.listen, "management": s.config.management, "control": s.config.control,
	} {
		if address == "" {
			continue
		}
		d := &door{name: name, address: address, site: s, handler: s.handler(name)}
		if err := d.open(ctx); err != nil {
			return err
		}
		s.doors[name] = d
		s.addresses[name] = d.address
	}
	if s.config.blackhole != "" {
		address, end, err := blackhole(s.config.blackhole)
		if err != nil {
			return fmt.Errorf("the black hole on %s: %w", s.config.blackhole, err)
		}
		s.closers = append(s.closers, end)
		s.addresses["blackhole"] = address
	}
	if s.config.dns != "" {
		address, end, err := serveNames(s.config.dns, s.config.dnsAnswer)
		if err != nil {
			return fmt.Errorf("the name server on %s: %w", s.config.dns, err)
		}
		s.closers = append(s.closers, end)
		s.addresses["dns"] = address
	}
	if s.config.beatTo != "" {
		go s.beatOn()
	}
	return nil
}

func (s *site) close() {
	close(s.shut)
	for _, d := range s.doors {
		d.close()
	}
	for _, end := range s.closers {
		end()
	}
}

// open listens, on the same address as before.
func (d *door) open(ctx context.Context) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.server != nil {
		return nil
	}
	var plain net.ListenConfig
	listener, err := plain.Listen(ctx, "tcp", d.address)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", d.address, err)
	}
	d.address = listener.Addr().String()
	server := &http.Server{
		Handler:           d.handler,
		ReadHeaderTimeout: time.Minute,
		// Errors of clients are not logged: the log would repeat canaries.
		ErrorLog: log.New(nothing{}, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				d.site.count(d.name)
			}
		},
	}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	// gRPC without TLS uses no upgrade.
	server.Protocols.SetUnencryptedHTTP2(true)
	serve := server.Serve
	if d.name == "main" && d.site.config.tls != "" && d.site.config.tls != "plain" {
		certificates, err := forge(d.site.config, d.address)
		if err != nil {
			_ = listener.Close()
			return fmt.Errorf("making certificates: %w", err)
		}
		server.Protocols.SetHTTP2(true)
		server.TLSConfig = certificates
		serve = func(l net.Listener) error { return server.ServeTLS(spoilt(l, d.site.config.tls), "", "") }
	}
	d.server = server
	go func() {
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("misbehave: serving %s: %v", d.address, err)
		}
	}()
	return nil
}

// close refuses new connections and ends the open ones.
func (d *door) close() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.server != nil {
		_ = d.server.Close()
		d.server = nil
	}
}

// handler answers the requests of one port.
func (s *site) handler(port string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.isHung(port) {
			s.note(port, r)
			s.hang(r)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/_/") {
			s.serveControl(w, r)
			return
		}
		if port == "control" {
			http.NotFound(w, r)
			return
		}
		s.note(port, r)
		v := &visit{site: s, w: w, r: r, path: r.URL.EscapedPath(), parameters: r.URL.Query()}
		v.perform(s.modeFor(port, r.URL.Path))
	})
}

// hang keeps the connection and sends nothing, until the other side or the process gives up.
func (s *site) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.shut:
	}
}

func (s *site) isHung(port string) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.hung[port]
}

// set applies a mode to a port below a path; "ok" at "/" removes all modes of the port.
func (s *site) set(port, path, mode string) error {
	if _, _, _, err := parseMode(mode); err != nil {
		return err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	kept := s.rules[:0:0]
	for _, r := range s.rules {
		forgotten := r.Port == port && (r.Path == path || path == "/" && mode == "ok")
		if !forgotten {
			kept = append(kept, r)
		}
	}
	s.rules = append(kept, rule{port, path, mode})
	return nil
}

// modeFor returns the rule with the longest path.
func (s *site) modeFor(port, path string) string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	mode, longest := "ok", -1
	for _, r := range s.rules {
		below := path == r.Path || strings.HasPrefix(path, strings.TrimSuffix(r.Path, "/")+"/")
		if r.Port == port && below && len(r.Path) > longest {
			mode, longest = r.Mode, len(r.Path)
		}
	}
	return mode
}

// nothing discards a log.
type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }
