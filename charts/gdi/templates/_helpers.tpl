{{/* The names of things. One release for each namespace: `gdi-broker` is what other parts are told to call. */}}
{{- define "gdi.labels" -}}
app.kubernetes.io/part-of: gdi
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "gdi.brokerSelector" -}}
app.kubernetes.io/name: gdi-broker
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gdi.brokerName" -}}{{ .Release.Name }}-broker{{- end -}}
{{- define "gdi.brokerUrl" -}}http://{{ include "gdi.brokerName" . }}.{{ .Release.Namespace }}.svc:{{ .Values.broker.service.port }}{{- end -}}
{{- define "gdi.runsNamespace" -}}{{ .Values.runs.namespace | default (printf "%s-runs" .Release.Namespace) }}{{- end -}}
{{- define "gdi.airflowNamespace" -}}{{ .Values.airflow.namespace | default .Release.Namespace }}{{- end -}}
{{- define "gdi.image" -}}{{ .image.repository }}:{{ .image.tag | default .version }}{{- end -}}

{{- define "gdi.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "gdi.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* One end of a NetworkPolicy rule from {cidr, except} or {namespace, namespaceLabels, podLabels}. */}}
{{- define "gdi.peer" -}}
{{- if .cidr }}
- ipBlock:
    cidr: {{ .cidr }}
    {{- with .except }}
    except: {{ toJson . }}
    {{- end }}
{{- else }}
- namespaceSelector:
    matchLabels: {{ if .namespaceLabels }}{{ toJson .namespaceLabels }}{{ else }}{"kubernetes.io/metadata.name": {{ required "a network opening needs cidr, namespace or namespaceLabels" .namespace | quote }}}{{ end }}
  {{- with .podLabels }}
  podSelector:
    matchLabels: {{ toJson . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Egress rules from a list of openings, each with its TCP ports. */}}
{{- define "gdi.egress" -}}
{{- range . }}
- to: {{- include "gdi.peer" . | nindent 4 }}
  {{- with .ports }}
  ports: [{{ range $i, $port := . }}{{ if $i }}, {{ end }}{protocol: TCP, port: {{ $port }}}{{ end }}]
  {{- end }}
{{- end }}
{{- end -}}

{{- define "gdi.dns" -}}
- to: {{- include "gdi.peer" .Values.cluster.dns | nindent 4 }}
  ports: [{{ range $i, $port := .Values.cluster.dns.ports | default (list 53) }}{{ if $i }}, {{ end }}{protocol: UDP, port: {{ $port }}}, {protocol: TCP, port: {{ $port }}}{{ end }}]
{{- end -}}

{{/* The broker's settings for its database: the migration's too. */}}
{{- define "gdi.databaseEnvironment" -}}
- {name: TOKEN_BROKER_DATABASE_URL, value: {{ required "broker.database.url is missing: postgresql+asyncpg://USER@HOST/NAME" .Values.broker.database.url | quote }}}
{{- if .Values.broker.database.passwordSecret.name }}
- {name: TOKEN_BROKER_DATABASE_PASSWORD_FILE, value: /etc/gdi/database/password}
{{- end }}
{{- end -}}
{{- define "gdi.databaseVolume" -}}
{{- with .Values.broker.database.passwordSecret }}
{{- if .name }}
- {name: database, secret: {secretName: {{ .name }}, defaultMode: 288, items: [{key: {{ .key }}, path: password}]}}
{{- end }}
{{- end }}
{{- end -}}
