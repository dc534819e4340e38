{{- /* The arguments of `vigie run`, as a YAML list. extraArgs may set --listen and --admin: their defaults are the ports. */ -}}
{{- define "vigie.args" -}}
{{- $heartbeat := .Values.heartbeat -}}
- run
- --lease-namespace={{ .Release.Namespace }}
- --lease-name={{ include "vigie.fullname" . }}
- --heartbeat-service={{ include "vigie.heartbeatName" . }}
- --admin-auth={{ .Values.adminAuth }}
- --remediation={{ ternary "on" "off" .Values.remediation.enabled }}
- --log-format={{ .Values.log.format }}
- {{ printf "--log=%s" .Values.log.level | quote }}
{{- range .Values.namespaces }}
- --namespace={{ . }}
{{- end }}
{{- with $heartbeat.publicURL }}
- {{ printf "--public-url=%s" . | quote }}
{{- end }}
{{- range $heartbeat.trustedProxies }}
- --trusted-proxy={{ . }}
{{- end }}
{{- if include "vigie.tlsSecretName" . }}
- --tls-cert-file=/etc/vigie/heartbeat-tls/tls.crt
- --tls-key-file=/etc/vigie/heartbeat-tls/tls.key
{{- end }}
{{- range .Values.probes.clusterNetworks }}
- --cluster-network={{ . }}
{{- end }}
{{- range .Values.probes.allowNetworks }}
- --allow-network={{ . }}
{{- end }}
{{- range .Values.probes.denyNetworks }}
- --deny-network={{ . }}
{{- end }}
{{- with .Values.prometheus.url }}
- {{ printf "--prometheus-url=%s" . | quote }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* The pod's own identity: without the first two vigie labels no pod, and the heartbeat Service has no endpoints. */ -}}
{{- define "vigie.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
# vigie never probes this address, for any object.
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
