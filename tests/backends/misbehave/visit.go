package main

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// visit is one request on its way through the modes of its port and its path, to a page.
type visit struct {
	site       *site
	w          http.ResponseWriter
	r          *http.Request
	path       string // the rest of the path, with its leading slash
	taken      string // the segments that modes took from its front
	parameters url.Values
	page       page // served when the path names no page
	spring     springVariant
	exposition expositionVariant
}

// page is the page of a path without a mode.
type page int

const (
	homePage page = iota
	healthPage
	metricsPage
)

// mode answers in its own way, or changes the answer and calls serve for the rest of the path.
type mode func(v *visit)

// modes are found by the first one or two segments of the path.
var modes map[string]mode

func init() {
	modes = map[string]mode{"ok": (*visit).serve}
	for _, group := range []map[string]mode{
		slowModes, rawModes, bodyModes, answerModes, redirectModes, expositionModes, springModes, canaryModes,
	} {
		maps.Copy(modes, group)
	}
}

func modeNames() []string { return slices.Sorted(maps.Keys(modes)) }

// parseMode takes `name`, `name/argument` or `name;key=value;key=value` from the front of a path: the mode, its
// parameters, and the rest. An argument stays in the rest: the mode takes it itself.
func parseMode(path string) (mode, url.Values, string, error) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for length := min(2, len(segments)); length > 0; length-- {
		parameters := url.Values{}
		names := make([]string, length)
		for i, segment := range segments[:length] {
			names[i] = readSegment(segment, parameters)
		}
		if found, known := modes[strings.Join(names, "/")]; known {
			rest := strings.Join(segments[length:], "/")
			if rest != "" {
				rest = "/" + rest
			}
			return found, parameters, rest, nil
		}
	}
	return nil, nil, path, fmt.Errorf("no mode is named %q; there are: %s", path, strings.Join(modeNames(), ", "))
}

// readSegment takes the parameters off a segment of a path, and returns its name.
func readSegment(segment string, parameters url.Values) string {
	name, rest, _ := strings.Cut(segment, ";")
	for piece := range strings.SplitSeq(rest, ";") {
		key, value, given := strings.Cut(piece, "=")
		if unescaped, err := url.PathUnescape(value); err == nil {
			value = unescaped
		}
		if given {
			parameters.Set(key, value)
		}
	}
	return name
}

// perform runs the mode of the port first; modes in the path come after it.
func (v *visit) perform(spec string) {
	found, parameters, rest, err := parseMode(spec)
	if err != nil {
		panic("a mode was set that does not exist: " + spec)
	}
	for key, values := range parameters {
		v.parameters[key] = values
	}
	// The mode's own argument goes to the front of the path, where the mode expects it.
	v.path = rest + v.path
	found(v)
}

// serve follows the path: a mode in it, or a page.
func (v *visit) serve() {
	found, parameters, rest, err := parseMode(v.path)
	if err != nil {
		v.servePage()
		return
	}
	v.taken += strings.TrimSuffix(v.path, rest)
	v.path = rest
	for key, values := range parameters {
		v.parameters[key] = values
	}
	found(v)
}

// take removes one segment from the front of the path and returns it.
func (v *visit) take() string {
	segment, rest, more := strings.Cut(strings.TrimPrefix(v.path, "/"), "/")
	v.taken += "/" + segment
	v.path = ""
	if more {
		v.path = "/" + rest
	}
	return readSegment(segment, v.parameters)
}

func (v *visit) parameter(name, otherwise string) string {
	if v.parameters.Has(name) {
		return v.parameters.Get(name)
	}
	return otherwise
}

func (v *visit) number(name string, otherwise float64) float64 {
	return number(v.parameters.Get(name), otherwise)
}

func (v *visit) servePage() {
	if isGRPC(v.r) {
		v.serveGRPC()
		return
	}
	path := strings.TrimSuffix(v.path, "/")
	if v.path == "" {
		path = map[page]string{homePage: "", healthPage: "/actuator/health", metricsPage: "/metrics"}[v.page]
	}
	switch {
	case path == "":
		fmt.Fprintln(v.w, "hello")
	case path == "/healthz" || path == "/health":
		writeJSON(v.w, map[string]string{"status": "UP"})
	case path == "/metrics":
		v.serveMetrics()
	case path == "/login":
		v.serveLogin()
	case path == "/actuator" || strings.HasPrefix(path, "/actuator/"):
		v.serveActuator(strings.TrimPrefix(path, "/actuator"))
	default:
		v.notFound()
	}
}

// isMetrics reports whether the rest of the path is a metrics page.
func (v *visit) isMetrics() bool {
	return v.path == "/metrics" || strings.HasSuffix(v.path, "/prometheus") || v.path == "" && v.page == metricsPage
}

// record serves the rest of the path into memory.
func (v *visit) record() *recorded {
	kept := &recorded{header: http.Header{}, status: http.StatusOK}
	inner := *v
	inner.w = kept
	inner.serve()
	return kept
}

// recorded is an answer that was not sent.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorded) Header() http.Header         { return r.header }
func (r *recorded) WriteHeader(status int)      { r.status = status }
func (r *recorded) Write(p []byte) (int, error) { return r.body.Write(p) }

// connection takes the connection over from the HTTP server, to send something that is not HTTP. A stream of HTTP/2 has
// no connection of its own: it is reset, which is the closest equivalent.
func (v *visit) connection(use func(net.Conn)) {
	conn, _, err := http.NewResponseController(v.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	use(conn)
}
