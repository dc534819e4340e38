package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// rawModes end or break the connection itself.
var rawModes = map[string]mode{
	"hang": func(v *visit) { v.site.hang(v.r) },
	// A reset before any byte.
	"reset": func(v *visit) { v.connection(reset) },
	// An orderly end before any byte.
	"close": func(v *visit) { v.connection(func(net.Conn) {}) },
	"half":  func(v *visit) { v.connection(v.half) },
	"half/headers": func(v *visit) {
		v.say("HTTP/1.1 200 OK\r\nContent-Type: text/pl")
	},
	"half/chunked": func(v *visit) {
		v.say("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nup 1\n")
	},
	"half/reset": func(v *visit) {
		v.connection(func(c net.Conn) { v.half(c); reset(c) })
	},
	"not-http": func(v *visit) { v.say(v.parameter("text", "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")) },
	// The answer of a TLS port to a plain-text client: an alert record.
	"not-http/tls": func(v *visit) { v.say("\x15\x03\x01\x00\x02\x02\x46") },
	"http/0.9":     func(v *visit) { v.say("<html>hello</html>") },
	"http/1.0":     func(v *visit) { v.say("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello\n") },
	"headers/huge": func(v *visit) {
		v.say("HTTP/1.1 200 OK\r\nX-Huge: " + strings.Repeat("a", int(v.number("bytes", 1<<20))) + "\r\n\r\nhello\n")
	},
	"headers/endless": func(v *visit) {
		v.connection(func(c net.Conn) {
			out := bufio.NewWriter(c)
			_, err := fmt.Fprint(out, "HTTP/1.1 200 OK\r\n")
			for n := 0; err == nil; n++ {
				_, err = fmt.Fprintf(out, "X-Header-%d: value\r\n", n)
			}
		})
	},
	// Endless interim answers.
	"headers/interim": func(v *visit) {
		v.connection(func(c net.Conn) {
			out, err := bufio.NewWriter(c), error(nil)
			for err == nil {
				_, err = fmt.Fprint(out, "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n")
			}
		})
	},
	// Length and chunks at once, or two lengths: the means of request smuggling.
	"headers/two-lengths": func(v *visit) {
		v.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 7\r\n\r\nhello\n")
	},
	"headers/bad": func(v *visit) { v.say("HTTP/1.1 200 OK\r\nno colon here\r\n\r\nhello\n") },
}

func (v *visit) say(text string) {
	v.connection(func(c net.Conn) {
		_, _ = fmt.Fprint(c, text)
		closeWriting(c)
	})
}

// half announces twice the length that it sends, and ends.
func (v *visit) half(c net.Conn) {
	whole := v.record()
	kind := whole.header.Get("Content-Type")
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		whole.status, http.StatusText(whole.status), kind, 2*whole.body.Len(), whole.body.String())
}

// reset ends a connection with RST: unsent data are discarded, and no TLS alert is sent.
func reset(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// closeWriting ends with FIN and waits until the other side ends too: closing at once could turn into RST while the
// other side still sends.
func closeWriting(c net.Conn) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	buffer := make([]byte, 1024)
	for {
		if _, err := c.Read(buffer); err != nil {
			return
		}
	}
}

// slowModes delay, and then answer with the rest of the path.
var slowModes = map[string]mode{
	"slow/first-byte": func(v *visit) {
		if v.wait(v.number("seconds", 3600)) {
			v.serve()
		}
	},
	// The headers at once, then the body in small parts over this many seconds.
	"slow/body": func(v *visit) {
		whole := v.record()
		for name, values := range whole.header {
			v.w.Header()[name] = values
		}
		v.w.WriteHeader(whole.status)
		flusher := http.NewResponseController(v.w)
		_ = flusher.Flush()
		body := whole.body.Bytes()
		pause := v.number("seconds", 3600) / float64(max(len(body), 1))
		for i := range body {
			if !v.wait(pause) {
				return
			}
			_, _ = v.w.Write(body[i : i+1])
			_ = flusher.Flush()
		}
	},
	// The metrics page only; everything else is fast.
	"slow/metrics": func(v *visit) {
		if !v.isMetrics() || v.wait(v.number("seconds", 3600)) {
			v.serve()
		}
	},
}

// wait reports whether the other side is still connected after this many seconds.
func (v *visit) wait(seconds float64) bool {
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-v.r.Context().Done():
	case <-v.site.shut:
	}
	return false
}
