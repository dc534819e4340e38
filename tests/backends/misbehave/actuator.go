package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// springVariant selects the actuator's answers; nil means those of a healthy Spring Boot with everything exposed.
type springVariant *actuator

type object = map[string]any

// actuator describes the answers of Spring Boot's management endpoints. The shapes are those recorded in tests/golden.
type actuator struct {
	status     string
	components object   // nil: not shown, Spring Boot's default
	old        bool     // Spring Boot 2.0 and 2.1: `details` instead of `components`, and the V2 content type
	links      []string // of the endpoints; nil: all of `exposed`
	foreign    bool     // the links lead to another host
	mapped     string   // the path of prometheus, if it differs from its name
	noRegistry bool     // exposed, but without a registry
	gone       bool     // no actuator at all
}

var exposed = []string{"health", "info", "metrics", "prometheus"}

var (
	dbUp   = object{"status": "UP", "details": object{"database": "PostgreSQL", "validationQuery": "isValid()"}}
	dbDown = object{"status": "DOWN", "details": object{
		"error": "org.springframework.jdbc.CannotGetJdbcConnectionException: Failed to obtain JDBC Connection",
	}}
	diskUp = object{"status": "UP", "details": object{
		"total": 10737418240, "free": 8589934592, "threshold": 10485760, "path": "/app/.", "exists": true,
	}}
	diskDown = object{"status": "DOWN", "details": object{
		"total": 10737418240, "free": 1048576, "threshold": 10485760, "path": "/app/.", "exists": true,
	}}
	ping = object{"status": "UP"}
)

// springVariants by the name after `spring/`.
var springVariants = map[string]actuator{
	"up":                {status: "UP", components: object{"db": dbUp, "diskSpace": diskUp, "ping": ping}},
	"up-bare":           {status: "UP"},
	"db-down":           {status: "DOWN", components: object{"db": dbDown, "diskSpace": diskUp, "ping": ping}},
	"db-down-bare":      {status: "DOWN"},
	"redis-down":        {status: "DOWN", components: object{"redis": dbDown, "db": dbUp, "ping": ping}},
	"disk-full":         {status: "DOWN", components: object{"db": dbUp, "diskSpace": diskDown, "ping": ping}},
	"liveness-broken":   {status: "DOWN", components: object{"livenessState": object{"status": "DOWN"}, "ping": ping}},
	"out-of-service":    {status: "OUT_OF_SERVICE", components: object{"readinessState": object{"status": "OUT_OF_SERVICE"}}},
	"unknown":           {status: "UNKNOWN", components: object{"mystery": object{"status": "UNKNOWN"}}},
	"own-status":        {status: "FATAL", components: object{"mystery": object{"status": "FATAL"}}},
	"v2":                {status: "UP", components: object{"db": dbUp, "diskSpace": diskUp}, old: true},
	"v2-db-down":        {status: "DOWN", components: object{"db": dbDown, "diskSpace": diskUp}, old: true},
	"links-health-only": {status: "UP", links: []string{"health"}},
	"links-no-prometheus": {
		status: "UP", links: []string{"health", "info", "metrics"},
	},
	"links-self-only":   {status: "UP", links: []string{}},
	"links-mapped":      {status: "UP", mapped: "scrape"},
	"links-foreign":     {status: "UP", foreign: true},
	"registry-missing":  {status: "UP", links: []string{"health", "info", "metrics"}, noRegistry: true},
	"gone":              {gone: true},
	"nested-components": {status: "DOWN", components: object{"dbs": object{"status": "DOWN", "components": object{"first": dbDown, "second": dbUp}}}},
}

var springModes = func() map[string]mode {
	found := map[string]mode{}
	for name, variant := range springVariants {
		found["spring/"+name] = func(v *visit) {
			v.spring, v.page = &variant, healthPage
			v.serve()
		}
	}
	return found
}()

// statusCodes are Spring Boot's; every other status is answered with 200.
var statusCodes = map[string]int{"DOWN": http.StatusServiceUnavailable, "OUT_OF_SERVICE": http.StatusServiceUnavailable}

// serveActuator answers below /actuator; `path` is the rest.
func (v *visit) serveActuator(path string) {
	variant := v.spring
	if variant == nil {
		variant = &actuator{status: "UP"}
	}
	if variant.gone {
		v.notFound()
		return
	}
	links := variant.links
	if links == nil {
		links = exposed
	}
	endpoint, below, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if endpoint == variant.mapped && endpoint != "" {
		endpoint = "prometheus"
	} else if endpoint == "prometheus" && (variant.mapped != "" || variant.noRegistry) {
		v.notFound()
		return
	}
	switch {
	case endpoint == "":
		v.serveLinks(variant, links)
	case !slices.Contains(links, endpoint):
		v.notFound()
	case endpoint == "health":
		v.serveHealth(variant, below)
	case endpoint == "prometheus":
		v.serveMetrics()
	case endpoint == "metrics":
		v.springJSON(variant, http.StatusOK, object{"names": []string{"jvm.memory.used", "process.uptime"}})
	default:
		v.springJSON(variant, http.StatusOK, object{})
	}
}

func (v *visit) serveHealth(variant springVariant, group string) {
	status, components := variant.status, variant.components
	if group != "" {
		// The groups check only the process, unless the process is the fault.
		name := map[string]string{"liveness": "livenessState", "readiness": "readinessState"}[group]
		if name == "" {
			v.notFound()
			return
		}
		status, components = "UP", nil
		if part, ok := variant.components[name].(object); ok {
			status, _ = part["status"].(string)
		}
	}
	body := object{"status": status}
	if components != nil && variant.old {
		body["details"] = components
	} else if components != nil {
		body["components"] = components
	}
	code := statusCodes[status]
	if code == 0 {
		code = http.StatusOK
	}
	v.springJSON(variant, code, body)
}

func (v *visit) serveLinks(variant springVariant, links []string) {
	scheme := "http"
	if v.r.TLS != nil {
		scheme = "https"
	}
	base := scheme + "://" + v.r.Host + v.taken + "/actuator"
	if variant.foreign {
		base = "http://backend.example.com/actuator"
	}
	link := func(href string) object {
		return object{"href": href, "templated": strings.Contains(href, "{")}
	}
	listed := object{"self": link(base)}
	for _, name := range links {
		path := name
		if name == "prometheus" && variant.mapped != "" {
			path = variant.mapped
		}
		listed[name] = link(base + "/" + path)
		switch name {
		case "health":
			listed["health-path"] = link(base + "/health/{*path}")
		case "metrics":
			listed["metrics-requiredMetricName"] = link(base + "/metrics/{requiredMetricName}")
		}
	}
	v.springJSON(variant, http.StatusOK, object{"_links": listed})
}

func (v *visit) springJSON(variant springVariant, code int, body any) {
	kind := "application/vnd.spring-boot.actuator.v3+json"
	if variant.old {
		kind = "application/vnd.spring-boot.actuator.v2+json;charset=UTF-8"
	}
	v.w.Header().Set("Content-Type", kind)
	v.w.WriteHeader(code)
	_ = json.NewEncoder(v.w).Encode(body)
}

// notFound is Spring Boot's own page for an unknown path.
func (v *visit) notFound() {
	v.w.Header().Set("Content-Type", "application/json")
	v.w.WriteHeader(http.StatusNotFound)
	_ = json.NewEncoder(v.w).Encode(object{
		"timestamp": "2026-01-01T00:00:00.000+00:00", "status": 404, "error": "Not Found", "path": v.path,
	})
}
