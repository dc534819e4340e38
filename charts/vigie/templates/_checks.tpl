{{- /* Refuses, with a sentence, values that match the schema and must not be installed. */ -}}
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
{{- if and $heartbeat.route.enabled (not $heartbeat.route.hostnames) (not $heartbeat.publicURL) -}}
{{- fail "heartbeat.route needs hosts, or it would take every host of its listeners: set heartbeat.publicURL, or heartbeat.route.hostnames" -}}
{{- end -}}
{{- if $heartbeat.tls.certificate.enabled -}}
{{- if not $heartbeat.tls.certificate.issuerRef.name -}}
{{- fail "heartbeat.tls.certificate needs an issuer: name it in heartbeat.tls.certificate.issuerRef" -}}
{{- end -}}
{{- if not (or $heartbeat.tls.certificate.dnsNames $heartbeat.publicURL) -}}
{{- fail "heartbeat.tls.certificate needs names: set heartbeat.publicURL, or heartbeat.tls.certificate.dnsNames" -}}
{{- end -}}
{{- end -}}
{{- include "vigie.checks.names" . -}}
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
{{- include "vigie.checks.extra" . -}}
{{- include "vigie.checks.strategy" . -}}
{{- $pdb := .Values.pdb -}}
{{- if and $pdb.enabled (gt (int .Values.replicaCount) 1) (kindIs "invalid" $pdb.minAvailable) (kindIs "invalid" $pdb.maxUnavailable) -}}
{{- fail "pdb says neither how many pods stay nor how many may go: set pdb.minAvailable or pdb.maxUnavailable, or pdb.enabled: false" -}}
{{- end -}}
{{- end -}}

{{- /*
Flags that the chart sets itself (templates/_container.tpl), and the value to use instead. vigie accepts each of these flags only once,
and the environment variable of a flag would bypass the checks of the value. Flags that may repeat only add to the values, except
--namespace, whose rights depend on the value.
*/ -}}
{{- define "vigie.checks.extra" -}}
{{- $instead := dict
  "--lease-namespace" "install the release into that namespace"
  "--lease-name" "set fullnameOverride"
  "--heartbeat-service" "set fullnameOverride"
  "--admin-auth" "set adminAuth"
  "--remediation" "set remediation.enabled"
  "--log-format" "set log.format"
  "--log" "set log.level"
  "--namespace" "set namespaces"
  "--public-url" "set heartbeat.publicURL"
  "--tls-cert-file" "set heartbeat.tls.secretName"
  "--tls-key-file" "set heartbeat.tls.secretName"
  "--prometheus-url" "set prometheus.url" -}}
{{- range .Values.extraArgs -}}
{{- $flag := first (splitList "=" .) -}}
{{- with get $instead $flag -}}
{{- fail (printf "extraArgs names %s, which the chart gives itself: %s" $flag .) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $name := .name -}}
{{- range $flag, $value := $instead -}}
{{- if eq $name (printf "VIGIE_%s" ($flag | trimPrefix "--" | replace "-" "_" | upper)) -}}
{{- fail (printf "extraEnv names %s, which the chart gives itself as %s: %s" $name $flag $value) -}}
{{- end -}}
{{- end -}}
{{- if has $name (list "POD_NAME" "POD_NAMESPACE" "POD_IP") -}}
{{- fail (printf "extraEnv names %s, which the chart sets itself: leave it out" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The API server accepts no address as a host, and no Service whose name begins with a digit. */ -}}
{{- define "vigie.checks.names" -}}
{{- $heartbeat := .Values.heartbeat -}}
{{- $public := include "vigie.publicHost" . -}}
{{- $address := "^[0-9.]+$|:" -}}
{{- if and $heartbeat.ingress.enabled (regexMatch $address ($heartbeat.ingress.host | default $public)) -}}
{{- fail (printf "heartbeat.ingress needs a host name, and %s is an address: set heartbeat.ingress.host, or a name in heartbeat.publicURL" ($heartbeat.ingress.host | default $public)) -}}
{{- end -}}
{{- if $heartbeat.route.enabled -}}
{{- range ($heartbeat.route.hostnames | default (list $public)) -}}
{{- if regexMatch $address . -}}
{{- fail (printf "heartbeat.route needs host names, and %s is an address: set heartbeat.route.hostnames, or a name in heartbeat.publicURL" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $heartbeat.tls.certificate.enabled -}}
{{- range ($heartbeat.tls.certificate.dnsNames | default (list $public)) -}}
{{- if regexMatch $address . -}}
{{- fail (printf "heartbeat.tls.certificate needs DNS names, and %s is an address: set heartbeat.tls.certificate.dnsNames, or a name in heartbeat.publicURL" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $name := include "vigie.fullname" . -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- fail (printf "the objects would be called %s, and a Service's name begins with a letter: name the release otherwise, or set fullnameOverride" $name) -}}
{{- end -}}
{{- end -}}

{{- define "vigie.checks.strategy" -}}
{{- $strategy := .Values.strategy -}}
{{- if ne (toString $strategy.type) "Recreate" -}}
{{- with $strategy.rollingUpdate -}}
{{- $noSurge := and (not (kindIs "invalid" .maxSurge)) (eq (toString .maxSurge | trimSuffix "%" | int) 0) -}}
{{- $noneGoes := and (not (kindIs "invalid" .maxUnavailable)) (eq (toString .maxUnavailable | trimSuffix "%" | int) 0) -}}
{{- if and $noSurge $noneGoes -}}
{{- fail "strategy.rollingUpdate has maxSurge 0 and maxUnavailable 0: no pod could be replaced; raise one of them" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
