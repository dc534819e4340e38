{{- /* Refuses, in a sentence, what fits the schema and still must not be installed. */ -}}
{{- define "vigie.checks" -}}
{{- $heartbeat := .Values.heartbeat -}}
{{- $hasTLS := ne "" (include "vigie.tlsSecretName" .) -}}
{{- if not $heartbeat.allowInsecure -}}
{{- if hasPrefix "http://" $heartbeat.publicURL -}}
{{- fail (printf "heartbeat.publicURL is %s: tokens would travel in clear; give a URL that begins with https://, or set heartbeat.allowInsecure: true" $heartbeat.publicURL) -}}
{{- end -}}
{{- if and (ne $heartbeat.service.type "ClusterIP") (not $hasTLS) -}}
{{- fail (printf "heartbeat.service.type is %s and the heartbeat port has no TLS: tokens would travel in clear; set heartbeat.tls.secretName, or heartbeat.allowInsecure: true" $heartbeat.service.type) -}}
{{- end -}}
{{- if and $heartbeat.ingress.enabled (not $heartbeat.ingress.tls.enabled) -}}
{{- fail "heartbeat.ingress is enabled without TLS: tokens would travel in clear; set heartbeat.ingress.tls.enabled: true (and heartbeat.ingress.tls.secretName, unless the controller has a default certificate), or heartbeat.allowInsecure: true" -}}
{{- end -}}
{{- if $heartbeat.route.enabled -}}
{{- if not $heartbeat.route.tls -}}
{{- fail "heartbeat.route is enabled and heartbeat.route.tls does not say that its listeners terminate TLS: tokens would travel in clear; name such listeners in heartbeat.route.parentRefs and set heartbeat.route.tls: true, or set heartbeat.allowInsecure: true" -}}
{{- end -}}
{{- range $heartbeat.route.parentRefs -}}
{{- if not (or .sectionName .port) -}}
{{- fail (printf "heartbeat.route.parentRefs names the Gateway %s and none of its listeners: the route would hold for plain HTTP, too; add the sectionName of a listener that terminates TLS, or set heartbeat.allowInsecure: true" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $heartbeat.ingress.enabled (not $heartbeat.ingress.host) (not $heartbeat.publicURL) -}}
{{- fail "heartbeat.ingress needs a host: set heartbeat.publicURL, or heartbeat.ingress.host" -}}
{{- end -}}
{{- if and $heartbeat.route.enabled (not $heartbeat.route.parentRefs) -}}
{{- fail "heartbeat.route needs a Gateway: name it in heartbeat.route.parentRefs" -}}
{{- end -}}
{{- if $heartbeat.tls.certificate.enabled -}}
{{- if not $heartbeat.tls.certificate.issuerRef.name -}}
{{- fail "heartbeat.tls.certificate needs an issuer: name it in heartbeat.tls.certificate.issuerRef" -}}
{{- end -}}
{{- if not (or $heartbeat.tls.certificate.dnsNames $heartbeat.publicURL) -}}
{{- fail "heartbeat.tls.certificate needs names: set heartbeat.publicURL, or heartbeat.tls.certificate.dnsNames" -}}
{{- end -}}
{{- end -}}
{{- $namespaces := .Values.namespaces -}}
{{- range .Values.remediation.namespaces -}}
{{- if and $namespaces (not (has . $namespaces)) -}}
{{- fail (printf "remediation.namespaces names %s, which vigie does not look after: add it to namespaces" .) -}}
{{- end -}}
{{- end -}}
{{- with .Values.serviceMonitor.scraper -}}
{{- if and .serviceAccount (not .namespace) -}}
{{- fail (printf "serviceMonitor.scraper names the ServiceAccount %s and no namespace: set serviceMonitor.scraper.namespace" .serviceAccount) -}}
{{- end -}}
{{- end -}}
{{- end -}}
