{{- define "node.labels" -}}
app.kubernetes.io/part-of: gdi-node
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
{{- define "node.gatewaySelector" -}}
app.kubernetes.io/name: gdi-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "node.funnelSelector" -}}
app.kubernetes.io/name: gdi-funnel
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "node.gatewayName" -}}{{ .Release.Name }}-gateway{{- end -}}
{{- define "node.funnelName" -}}{{ .Release.Name }}-funnel{{- end -}}
{{- define "node.tasksNamespace" -}}{{ .Values.funnel.tasks.namespace | default (printf "%s-tasks" .Release.Namespace) }}{{- end -}}
{{- define "node.internalUrl" -}}{{ ternary "https" "http" (ne .Values.gateway.internalTls.serverSecret "") }}://{{ include "node.gatewayName" . }}-internal.{{ .Release.Namespace }}.svc:8081{{- end -}}
{{- define "node.image" -}}{{ .image.repository }}:{{ .image.tag | default .version }}{{- end -}}
{{- define "node.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}
{{- define "node.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
{{- define "node.peer" -}}
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
{{- define "node.egress" -}}
{{- range . }}
- to: {{- include "node.peer" . | nindent 4 }}
  {{- with .ports }}
  ports: [{{ range $i, $port := . }}{{ if $i }}, {{ end }}{protocol: TCP, port: {{ $port }}}{{ end }}]
  {{- end }}
{{- end }}
{{- end -}}
{{- define "node.dns" -}}
- to: {{- include "node.peer" .Values.cluster.dns | nindent 4 }}
  ports: [{{ range $i, $port := .Values.cluster.dns.ports | default (list 53) }}{{ if $i }}, {{ end }}{protocol: UDP, port: {{ $port }}}, {protocol: TCP, port: {{ $port }}}{{ end }}]
{{- end -}}
