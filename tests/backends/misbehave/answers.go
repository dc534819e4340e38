package main

import (
	"compress/gzip"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// bodyModes answer with a wrong body.
var bodyModes = map[string]mode{
	"content-type": func(v *visit) {
		v.retype(v.parameter("value", "text/html; charset=utf-8"))
	},
	// No Content-Type at all.
	"content-type/none": func(v *visit) { v.retype("") },
	"content-type/json": func(v *visit) { v.retype("application/json") },
	"html": func(v *visit) {
		v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(v.w, "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>It works</body></html>\n")
	},
	"empty": func(v *visit) { v.w.WriteHeader(http.StatusOK) },
	// This many bytes of valid exposition, with a matching length.
	"huge": func(v *visit) {
		bytes := int64(v.number("bytes", 64<<20))
		v.asMetrics()
		v.w.Header().Set("Content-Length", strconv.FormatInt(bytes, 10))
		_, _ = io.CopyN(v.w, &repeated{text: commentLine}, bytes)
	},
	"endless":      func(v *visit) { v.asMetrics(); _, _ = io.Copy(v.w, &repeated{text: commentLine}) },
	"endless/line": func(v *visit) { v.asMetrics(); _, _ = io.Copy(v.w, &repeated{text: "a"}) },
	"gzip":         func(v *visit) { v.compress() },
	// A kilobyte that becomes a megabyte, a thousand times over.
	"gzip/bomb": func(v *visit) {
		v.asMetrics()
		v.w.Header().Set("Content-Encoding", "gzip")
		writer := gzip.NewWriter(v.w)
		_, _ = io.CopyN(writer, &repeated{text: strings.Repeat(commentLine, 512)}, int64(v.number("bytes", 1<<30)))
		_ = writer.Close()
	},
	"gzip/broken": func(v *visit) {
		v.asMetrics()
		v.w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(v.w, "this is no gzip\n")
	},
	"gzip/cut": func(v *visit) {
		v.asMetrics()
		v.w.Header().Set("Content-Encoding", "gzip")
		writer := gzip.NewWriter(v.w)
		_, _ = io.WriteString(writer, goodPage(1000))
		_ = writer.Flush() // and no trailer
	},
}

const commentLine = "# a comment that says nothing and is perfectly valid\n"

// repeated is an endless text.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		copied := copy(p[n:], r.text[r.at:])
		n += copied
		r.at = (r.at + copied) % len(r.text)
	}
	return n, nil
}

func (v *visit) asMetrics() {
	v.w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
}

// retype answers with another content type; the page is the metrics page unless the path names one.
func (v *visit) retype(kind string) {
	v.page = metricsPage
	whole := v.record()
	// The nil keeps Go from guessing a content type.
	v.w.Header()["Content-Type"] = nil
	if kind != "" {
		v.w.Header().Set("Content-Type", kind)
	}
	v.w.WriteHeader(whole.status)
	_, _ = v.w.Write(whole.body.Bytes())
}

func (v *visit) compress() {
	v.page = metricsPage
	whole := v.record()
	v.w.Header().Set("Content-Type", whole.header.Get("Content-Type"))
	v.w.Header().Set("Content-Encoding", "gzip")
	v.w.WriteHeader(whole.status)
	writer := gzip.NewWriter(v.w)
	_, _ = writer.Write(whole.body.Bytes())
	_ = writer.Close()
}

// answerModes are statuses and authentication.
var answerModes = map[string]mode{
	// status/503: the rest of the path is the body, if it is a page.
	"status": func(v *visit) {
		code, err := strconv.Atoi(v.take())
		if err != nil || code < 200 || code > 999 {
			http.Error(v.w, "status wants a number from 200 to 999", http.StatusNotFound)
			return
		}
		if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
			if after := v.parameter("retry-after", ""); after != "" {
				v.w.Header().Set("Retry-After", after)
			}
		}
		body := v.record()
		if kind := body.header.Get("Content-Type"); kind != "" {
			v.w.Header().Set("Content-Type", kind)
		}
		v.w.WriteHeader(code)
		_, _ = v.w.Write(body.body.Bytes())
	},
	// A proxy without its backend.
	"gateway": func(v *visit) {
		code := int(v.number("code", 502))
		v.w.Header().Set("Server", "nginx/1.22.1")
		v.w.Header().Set("Content-Type", "text/html")
		v.w.WriteHeader(code)
		fmt.Fprintf(v.w, "<html>\r\n<head><title>%d %s</title></head>\r\n</html>\r\n", code, http.StatusText(code))
	},
	"auth/bearer": func(v *visit) { v.letIn("bearer", `Bearer realm="misbehave"`) },
	"auth/basic":  func(v *visit) { v.letIn("basic", `Basic realm="misbehave"`) },
	// Authenticated, and not allowed: 403 for every client.
	"auth/forbidden": func(v *visit) { http.Error(v.w, "forbidden", http.StatusForbidden) },
}

func (v *visit) letIn(scheme, challenge string) {
	if v.site.letsIn(v.r, scheme) {
		v.serve()
		return
	}
	v.w.Header().Set("WWW-Authenticate", challenge)
	http.Error(v.w, "unauthorized", http.StatusUnauthorized)
}

// letsIn reports whether a request has the right credentials.
func (s *site) letsIn(r *http.Request, scheme string) bool {
	given, wanted := "", s.config.basic
	if scheme == "bearer" {
		given, wanted = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), s.config.bearer
	} else if user, password, ok := r.BasicAuth(); ok {
		given = user + ":" + password
	}
	return subtle.ConstantTimeCompare([]byte(given), []byte(wanted)) == 1
}

// redirectModes redirect; `code` is 302 by default.
var redirectModes = map[string]mode{
	"redirect/to": func(v *visit) { v.redirect(v.parameter("location", "/")) },
	// To itself, forever.
	"redirect/loop": func(v *visit) { v.redirect(v.r.URL.RequestURI()) },
	// This many hops, then the rest of the path.
	"redirect/chain": func(v *visit) {
		hops := int(v.number("hops", 3))
		if hops <= 0 {
			v.serve()
			return
		}
		v.redirect(fmt.Sprintf("/redirect/chain;hops=%d%s", hops-1, v.path))
	},
	"redirect/metadata":   func(v *visit) { v.redirect("http://169.254.169.254/latest/meta-data/") },
	"redirect/other-host": func(v *visit) { v.redirect(v.parameter("host", "http://backend.example.com") + v.path) },
	"redirect/https":      func(v *visit) { v.redirect("https://" + v.r.Host + v.path) },
	"redirect/login":      func(v *visit) { v.redirect("/login") },
	"redirect/user-info":  func(v *visit) { v.redirect("http://user:password@" + v.r.Host + "/") },
	"redirect/file":       func(v *visit) { v.redirect("file:///etc/passwd") },
	"redirect/nowhere":    func(v *visit) { v.w.WriteHeader(int(v.number("code", http.StatusFound))) },
}

func (v *visit) redirect(location string) {
	if _, err := url.Parse(location); err != nil {
		http.Error(v.w, "that location is no URL", http.StatusBadRequest)
		return
	}
	// http.Redirect would clean the location.
	v.w.Header().Set("Location", location)
	v.w.WriteHeader(int(v.number("code", http.StatusFound)))
}

func (v *visit) serveLogin() {
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(v.w, "<!DOCTYPE html>\n<html><head><title>Please sign in</title></head></html>\n")
}
