{{- /*
Names. Objects in the release's namespace have the full name. Cluster-scoped objects, and objects in other namespaces, also contain
the release's namespace, because two releases with one name, in different namespaces, must not overwrite each other's objects.
*/ -}}

{{- /* Short enough for the longest derived name, the Service `<full name>-heartbeat`, which may have 63 characters. */ -}}
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

{{- /* The name of a role, as `<namespace>:<full name>:<role>`: RBAC allows the colon, which none of the parts contains. */ -}}
{{- define "vigie.roleName" -}}
{{ .root.Release.Namespace }}:{{ include "vigie.fullname" .root }}:{{ .role }}
{{- end -}}

{{- /*
These labels never change during the life of a release: a Deployment's selector is immutable, and the leader distinguishes its own pods
from those of another release by these two labels.
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
The chart's labels, and more: a dict of root and labels. The chart's labels override the others. Values cannot set the leader's label.
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

{{- /* The host of the public URL, or nothing. A URL may contain capitals; an Ingress, route or Certificate may not. */ -}}
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

{{- /* The URL of a runbook: a dict of root and page, the name of the alert. */ -}}
{{- define "vigie.runbook" -}}
{{- $url := .root.Values.prometheusRule.runbookURL | default "docs/runbooks/{alert}.md" -}}
{{- if not (contains "{alert}" $url) -}}{{- $url = printf "%s/{alert}" (trimSuffix "/" $url) -}}{{- end -}}
{{ $url | replace "{alert}" .page }}
{{- end -}}
