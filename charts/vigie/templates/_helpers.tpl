{{- /*
Names. What lives in the release's namespace is called by the full name. What lives in no namespace, or in others', carries
the release's namespace besides, because two releases of one name, each in a namespace of its own, must not fight over it.
*/ -}}

{{- /* Short enough for the longest name that is made of it, the Service `<full name>-heartbeat`, which may have 63. */ -}}
{{- define "vigie.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := .Release.Name | replace "." "-" -}}
{{- if not (contains .Chart.Name $name) -}}{{- $name = printf "%s-%s" $name .Chart.Name -}}{{- end -}}
{{- $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "vigie.heartbeatName" -}}
{{ include "vigie.fullname" . }}-heartbeat
{{- end -}}

{{- define "vigie.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "vigie.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* Of a role, as `<namespace>:<full name>:<role>`: RBAC allows the colon, which is in none of the parts. */ -}}
{{- define "vigie.roleName" -}}
{{ .root.Release.Namespace }}:{{ include "vigie.fullname" .root }}:{{ .role }}
{{- end -}}

{{- /*
What never changes in the life of a release: a Deployment's selector is immutable, and the leader tells its own pods from
those of another release by just these two.
*/ -}}
{{- define "vigie.selectorLabels" -}}
app.kubernetes.io/name: vigie
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "vigie.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "vigie.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with omit .Values.commonLabels "helm.sh/chart" "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "app.kubernetes.io/component" "vigie.dev/role" }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /*
The chart's labels, and more: a dict of root and labels. What is ours wins, and who leads is no value's business.
*/ -}}
{{- define "vigie.labelsWith" -}}
{{- $more := omit (.labels | default dict) "app.kubernetes.io/component" "vigie.dev/role" -}}
{{- toYaml (merge (dict) (fromYaml (include "vigie.labels" .root)) $more) -}}
{{- end -}}

{{- define "vigie.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag | default .Chart.AppVersion -}}
{{- if $image.digest -}}
{{- if $image.tag -}}{{ $image.repository }}:{{ $tag }}@{{ $image.digest }}{{- else -}}{{ $image.repository }}@{{ $image.digest }}{{- end -}}
{{- else -}}
{{ $image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{- /* The host of the public URL, or nothing. In a URL it may have capitals; in an Ingress, route or Certificate it may not. */ -}}
{{- define "vigie.publicHost" -}}
{{- with .Values.heartbeat.publicURL -}}{{ (urlParse .).hostname | lower }}{{- end -}}
{{- end -}}

{{- define "vigie.tlsSecretName" -}}
{{- $tls := .Values.heartbeat.tls -}}
{{- if $tls.secretName -}}
{{ $tls.secretName }}
{{- else if $tls.certificate.enabled -}}
{{ include "vigie.fullname" . }}-heartbeat-tls
{{- end -}}
{{- end -}}

{{- /* Where a runbook is read: a dict of root and page, the name of the alert. */ -}}
{{- define "vigie.runbook" -}}
{{- $url := .root.Values.prometheusRule.runbookURL | default "docs/runbooks/{alert}.md" -}}
{{- if not (contains "{alert}" $url) -}}{{- $url = printf "%s/{alert}" (trimSuffix "/" $url) -}}{{- end -}}
{{ $url | replace "{alert}" .page }}
{{- end -}}
