package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// canary is text that must never appear where a target's text is forbidden: each place has its own, so that a leak
// shows its origin.
func canary(place string) string { return "CANARY-" + place + "-8f1c" }

// canaryModes answer like others, with canaries wherever a target can put text.
var canaryModes = map[string]mode{
	"canary/error":    func(v *visit) { v.sing(http.StatusServiceUnavailable, "text/plain", canary("body")+"\n") },
	"canary/ok":       func(v *visit) { v.sing(http.StatusOK, "text/plain", canary("body")+"\n") },
	"canary/html":     func(v *visit) { v.sing(http.StatusOK, "text/html; x="+canary("content-type"), "<p>"+canary("body")) },
	"canary/type":     func(v *visit) { v.sing(http.StatusOK, canary("content-type")+"/x", canary("body")) },
	"canary/metrics":  func(v *visit) { v.sing(http.StatusOK, textType, canaryMetrics()) },
	"canary/actuator": (*visit).singActuator,
	"canary/redirect": func(v *visit) {
		v.sing(http.StatusFound, "text/plain", canary("body"), "Location: http://"+canary("user")+":"+canary("password")+
			"@"+canary("host")+".example.com/"+canary("path")+"?"+canary("query")+"#"+canary("fragment"))
	},
	"canary/unauthorized": func(v *visit) {
		v.sing(http.StatusUnauthorized, "text/plain", canary("body"), `WWW-Authenticate: Basic realm="`+canary("realm")+`"`)
	},
	"canary/not-http": func(v *visit) { v.say(canary("bytes") + "\r\n") },
	"canary/encoding": func(v *visit) {
		v.sing(http.StatusOK, textType, canary("body"), "Content-Encoding: "+canary("encoding"))
	},
	"canary/bad-header": func(v *visit) { v.say("HTTP/1.1 200 OK\r\n" + canary("header-line") + "\r\n\r\n") },
	"canary/bad-length": func(v *visit) {
		v.say("HTTP/1.1 200 OK\r\nContent-Length: " + canary("length") + "\r\n\r\n" + canary("body"))
	},
	"canary/bad-status": func(v *visit) { v.say("HTTP/1.1 " + canary("status") + "\r\n\r\n" + canary("body")) },
	"canary/version":    func(v *visit) { v.say("HTTP/" + canary("version") + " 200 OK\r\n\r\n" + canary("body")) },
	"canary/chunk": func(v *visit) {
		v.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + canary("chunk-size") + "\r\n" + canary("body"))
	},
}

// sing answers with a canary in the status line and in several headers. Go's server writes no custom reason phrase.
func (v *visit) sing(code int, kind, body string, headers ...string) {
	head := []string{
		fmt.Sprintf("HTTP/1.1 %d %s", code, canary("reason")),
		"Content-Type: " + kind,
		fmt.Sprintf("Content-Length: %d", len(body)),
		"Server: " + canary("server"),
		"X-Application-Context: " + canary("header"),
		"Set-Cookie: session=" + canary("cookie") + "; Path=/" + canary("cookie-path"),
		"Connection: close",
	}
	v.connection(func(c net.Conn) {
		_, _ = fmt.Fprint(c, strings.Join(append(head, headers...), "\r\n")+"\r\n\r\n"+body)
		closeWriting(c)
	})
}

// canaryMetrics is a page with a syntax error in its sixth line.
func canaryMetrics() string {
	name := strings.ReplaceAll(canary("metric"), "-", "_")
	return "# HELP " + name + " " + canary("help") + "\n# TYPE " + name + " gauge\n" +
		name + "{label=\"" + canary("label-value") + "\"} 1\n# " + canary("comment") + "\ngood 1\n" +
		canary("broken-line") + "\n"
}

// singActuator is a health page and a link list with canaries, in shapes that parse.
func (v *visit) singActuator() {
	said, code := object{}, http.StatusOK
	switch {
	case v.path == "/actuator":
		said = object{"_links": object{
			"self":              object{"href": "http://" + v.r.Host + "/actuator?" + canary("link-query")},
			"health":            object{"href": "http://" + canary("link-user") + "@" + v.r.Host + "/actuator/health"},
			"prometheus":        object{"href": "http://" + canary("link-host") + ".example.com/actuator/prometheus"},
			canary("link name"): object{"href": "javascript:" + canary("link-script")},
		}}
	case v.path == "/actuator/health" || v.path == "":
		code = http.StatusServiceUnavailable
		said = object{"status": "DOWN", "components": object{
			"db":                      object{"status": "DOWN", "details": object{"error": canary("error"), "url": canary("jdbc-url")}},
			canary("component name!"): object{"status": "DOWN"},
			"ping":                    object{"status": canary("component-status")},
		}}
	default:
		code, said = http.StatusNotFound, object{"error": canary("error"), "path": canary("path")}
	}
	body, err := json.Marshal(said)
	if err != nil {
		panic("maps of strings are always JSON: " + err.Error())
	}
	v.sing(code, "application/vnd.spring-boot.actuator.v3+json", string(body))
}
