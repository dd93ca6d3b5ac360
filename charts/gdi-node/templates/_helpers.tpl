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
{{/* What names of objects begin with. A Service's has at most 63 letters, `-gateway-internal` 17 of them: the end of a
longer name gives way to six letters of its digest, so that two releases never share an object. */}}
{{- define "node.short" -}}
{{- if le (len .) 46 }}{{ . }}
{{- else }}{{ trunc 39 . | trimSuffix "-" | trimSuffix "." }}-{{ sha256sum . | trunc 6 }}
{{- end }}
{{- end -}}
{{- define "node.release" -}}{{ include "node.short" .Release.Name }}{{- end -}}
{{- define "node.gatewayName" -}}{{ include "node.release" . }}-gateway{{- end -}}
{{- define "node.funnelName" -}}{{ include "node.release" . }}-funnel{{- end -}}
{{/* Of objects that no namespace holds. */}}
{{- define "node.clusterName" -}}
{{ include "node.short" (printf "%s-%s" .Release.Namespace .Release.Name) }}-funnel
{{- end -}}
{{- define "node.tasksNamespace" -}}
{{ .Values.funnel.tasks.namespace | default (printf "%s-tasks" .Release.Namespace) }}
{{- end -}}
{{- define "node.own" -}}{{ eq .Values.node.placement "node" | ternary "own" "" }}{{- end -}}
{{- define "node.runsNamespace" -}}
{{ .Values.runs.namespace | default (printf "%s-runs" .Release.Namespace) }}
{{- end -}}
{{/* The gateway as pods reach it: in placement `node` by no name that an Ingress of today would find. */}}
{{- define "node.serviceName" -}}
{{ include "node.gatewayName" . }}{{ if include "node.own" . }}-runs{{ end }}
{{- end -}}
{{/* The policy with the placement, which must be the same in both. */}}
{{- define "node.policy" -}}
{{- $policy := .Values.gateway.policy }}
{{- $said := get $policy "placement" | default .Values.node.placement }}
{{- if ne $said .Values.node.placement }}
{{- fail (printf "gateway.policy.placement is %s, and node.placement is %s" $said .Values.node.placement) }}
{{- end }}
{{- toYaml (merge (dict "placement" $said) $policy) }}
{{- end -}}
{{- define "node.internalUrl" -}}
{{- $scheme := empty .Values.gateway.internalTls.serverSecret | ternary "http" "https" -}}
{{ $scheme }}://{{ include "node.gatewayName" . }}-internal.{{ .Release.Namespace }}.svc:8081
{{- end -}}
{{/* The port of the gateway's pod that the TES reads from: nginx's, where it stands before the bytes. */}}
{{- define "node.dataPort" -}}{{ ternary "data" "internal" .Values.gateway.nginx.enabled }}{{- end -}}
{{/* A value as text: Helm reads every number as a float, and would print 1000000 as 1e+06. */}}
{{- define "node.text" -}}{{ ternary . (toJson .) (kindIs "string" .) | quote }}{{- end -}}
{{/* A volume of keys of a Secret, {file: key}. 288 is 0440: root's, readable by the pod's group. */}}
{{- define "node.secret" -}}
name: {{ .volume }}
secret:
  secretName: {{ .name }}
  defaultMode: 288
  items:
    {{- range $file, $key := .items }}
    - {key: {{ $key }}, path: {{ $file }}}
    {{- end }}
{{- end -}}
{{/* Where pods run: of {pull, part}, the secrets of registries and gateway or funnel. */}}
{{- define "node.placement" -}}
{{- with .pull }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .part.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end -}}
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
    {{- $name := dict "kubernetes.io/metadata.name" .namespace }}
    matchLabels: {{ .namespaceLabels | default $name | toJson }}
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
  ports:
    {{- range . }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}
{{- define "node.dns" -}}
- to: {{- include "node.peer" .Values.cluster.dns | nindent 4 }}
  ports:
    {{- range .Values.cluster.dns.ports | default (list 53) }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}
{{/* The gateway's environment but for gateway.settings. */}}
{{- define "node.gatewayEnvironment" -}}
{{- $g := .Values.gateway }}
{{- $missing := "node.id is missing: as enrolled with the broker" }}
- {name: NODE_GATEWAY_NODE_ID, value: {{ required $missing .Values.node.id | quote }}}
- {name: NODE_GATEWAY_HOST, value: {{ $g.listen | quote }}}
- {name: NODE_GATEWAY_PORT, value: "8080"}
- {name: NODE_GATEWAY_INTERNAL_HOST, value: {{ $g.listen | quote }}}
- {name: NODE_GATEWAY_INTERNAL_PORT, value: "8081"}
- {name: NODE_GATEWAY_OPERATIONS_HOST, value: {{ $g.listen | quote }}}
- {name: NODE_GATEWAY_OPERATIONS_PORT, value: "8082"}
{{- if $g.nginx.enabled }}
- {name: NODE_GATEWAY_DOOR_SECRET_FILE, value: /etc/gdi/door/secret}
{{- end }}
{{- if $g.internalTls.serverSecret }}
- {name: NODE_GATEWAY_INTERNAL_TLS_CERT_FILE, value: /etc/gdi/internal-tls/tls.crt}
- {name: NODE_GATEWAY_INTERNAL_TLS_KEY_FILE, value: /etc/gdi/internal-tls/tls.key}
- {name: NODE_GATEWAY_INTERNAL_CLIENT_CA_FILE, value: /etc/gdi/internal-tls/ca.crt}
{{- end }}
- {name: NODE_GATEWAY_PUBLIC_URL, value: {{ required "node.publicUrl is missing" .Values.node.publicUrl | quote }}}
- {name: NODE_GATEWAY_BROKER_URL, value: {{ required "broker.url is missing" .Values.broker.url | quote }}}
{{- with .Values.broker.issuer }}
- {name: NODE_GATEWAY_BROKER_ISSUER, value: {{ . | quote }}}
{{- end }}
- {name: NODE_GATEWAY_KEY_FILE, value: /etc/gdi/key/key.pem}
- {name: NODE_GATEWAY_POLICY_FILE, value: /etc/gdi/policy/policy.yaml}
- {name: NODE_GATEWAY_DATASETS_FOLDER, value: /etc/gdi/datasets}
{{- $sqlite := "sqlite+aiosqlite:////var/lib/gdi/gateway.db" }}
- {name: NODE_GATEWAY_DATABASE_URL, value: {{ $g.database.url | default $sqlite | quote }}}
{{- if $g.database.passwordSecret.name }}
- {name: NODE_GATEWAY_DATABASE_PASSWORD_FILE, value: /etc/gdi/database/password}
{{- end }}
{{- $funnel := printf "http://%s.%s.svc:8000" (include "node.funnelName" .) .Release.Namespace }}
{{- $tes := $g.tes.url | default (ternary $funnel "" .Values.funnel.enabled) }}
- {name: NODE_GATEWAY_TES_URL, value: {{ required "gateway.tes.url is missing: funnel.enabled is false" $tes | quote }}}
- {name: NODE_GATEWAY_TES_USER, value: {{ $g.tes.user | quote }}}
- {name: NODE_GATEWAY_TES_PASSWORD_FILE, value: /etc/gdi/tes/password}
- {name: NODE_GATEWAY_TES_PUBLIC_KEY_FILE, value: /etc/gdi/tes-key/public.pem}
- {name: NODE_GATEWAY_TES_FLAVOUR, value: {{ $g.tes.flavour }}}
- {name: NODE_GATEWAY_SDA_URL, value: {{ required "gateway.sda.url is missing" $g.sda.url | quote }}}
- {name: NODE_GATEWAY_SDA_PREFIX, value: {{ $g.sda.prefix }}}
{{- $w := $g.workspace }}
- {name: NODE_GATEWAY_S3_ENDPOINT, value: {{ required "gateway.workspace.endpoint is missing" $w.endpoint | quote }}}
- {name: NODE_GATEWAY_S3_REGION, value: {{ $w.region | quote }}}
- {name: NODE_GATEWAY_S3_CREDENTIALS_FILE, value: /etc/gdi/s3/credentials.json}
- {name: NODE_GATEWAY_WORKSPACE_BUCKET, value: {{ required "gateway.workspace.bucket is missing" $w.bucket | quote }}}
{{- $missing := "gateway.workspace.releaseBucket is missing" }}
- {name: NODE_GATEWAY_RELEASE_BUCKET, value: {{ required $missing $w.releaseBucket | quote }}}
{{- if include "node.own" . }}
- {name: NODE_GATEWAY_LAUNCHER_ISSUER, value: {{ .Values.cluster.issuer | quote }}}
- {name: NODE_GATEWAY_LAUNCHER_JWKS_FILE, value: /var/run/gdi/keys.json}
{{- $subject := printf "system:serviceaccount:%s:%s" (include "node.runsNamespace" .) .Values.runs.serviceAccount }}
- {name: NODE_GATEWAY_LAUNCHER_SUBJECT, value: {{ $subject | quote }}}
{{- end }}
- {name: NODE_GATEWAY_MAX_STREAMS, value: {{ include "node.text" $g.maxStreams }}}
- {name: NODE_GATEWAY_SHUTDOWN_SECONDS, value: {{ include "node.text" $g.shutdownSeconds }}}
{{- end -}}

{{/* gateway.settings as environment variables: of {own, settings}, what the chart sets itself and the map. */}}
{{- define "node.settings" -}}
{{- $own := .own }}
{{- range $name, $value := .settings }}
{{- if hasPrefix "NODE_GATEWAY_" $name }}
{{- fail (printf "gateway.settings.%s: leave the prefix NODE_GATEWAY_ out" $name) }}
{{- else if regexMatch "(^|_)(PASSWORD|SECRET|TOKEN|KEY)$" $name }}
{{- fail (printf "gateway.settings.%s: a secret is never a value, but a file of a Secret" $name) }}
{{- else if contains (printf "{name: NODE_GATEWAY_%s," $name) $own }}
{{- fail (printf "gateway.settings.%s: the chart sets it, by a value of its own (values.yaml)" $name) }}
{{- end }}
- {name: NODE_GATEWAY_{{ $name }}, value: {{ include "node.text" $value }}}
{{- end }}
{{- end -}}
