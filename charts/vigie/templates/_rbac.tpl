{{- /*
The rules of one role of a file in files/rbac: a dict of root, file and role. `make generate` copies the files from config/rbac, which
is the only source of rules and has the reason for each. The Lease's name is the release's own.
*/ -}}
{{- define "vigie.rules" -}}
{{- $role := .role -}}
{{- $lease := include "vigie.fullname" .root -}}
{{- $found := false -}}
{{- range splitList "\n---\n" (.root.Files.Get (printf "files/rbac/%s.yaml" .file)) -}}
{{- $document := fromYaml . -}}
{{- if eq $document.metadata.name $role -}}
{{- $found = true -}}
{{- range $document.rules -}}
{{- if and (has "leases" .resources) .resourceNames -}}{{- $_ := set . "resourceNames" (list $lease) -}}{{- end -}}
{{- end -}}
{{- toYaml $document.rules -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}{{- fail (printf "files/rbac/%s.yaml has no role %s" .file .role) -}}{{- end -}}
{{- end -}}

{{- /*
Grants vigie the rules of a role: a dict of root, file and role, and of namespace to grant it in one namespace only. The objects have
the name of the role without its prefix `vigie-`.
*/ -}}
{{- define "vigie.grant" -}}
{{- $kind := ternary "Role" "ClusterRole" (hasKey . "namespace") -}}
{{- $called := .role | trimPrefix "vigie-" | replace "vigie" "watch" -}}
{{- $name := include "vigie.roleName" (dict "root" .root "role" $called) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name | quote }}
  {{- if hasKey . "namespace" }}
  namespace: {{ .namespace | quote }}
  {{- end }}
  labels:
    {{- include "vigie.labels" .root | nindent 4 }}
rules:
{{ include "vigie.rules" . }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name | quote }}
  {{- if hasKey . "namespace" }}
  namespace: {{ .namespace | quote }}
  {{- end }}
  labels:
    {{- include "vigie.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $name | quote }}
subjects:
- kind: ServiceAccount
  name: {{ include "vigie.serviceAccountName" .root | quote }}
  namespace: {{ .root.Release.Namespace | quote }}
{{- end -}}
