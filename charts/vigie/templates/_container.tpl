{{- /* What `vigie run` is told, as a YAML list. --listen and --admin are left to extraArgs: their defaults are the ports. */ -}}
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

{{- /* The pod it runs in: without the first two no pod is labelled, and the heartbeat Service leads nowhere. */ -}}
{{- define "vigie.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
# Not probed, whatever an object says.
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
