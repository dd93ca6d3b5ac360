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

{{/* What names of objects begin with. A Service's has at most 63 letters, `-broker-enrolment` 17 of them: the end of a
longer release name gives way to six letters of its digest, so that two releases never share an object. */}}
{{- define "gdi.release" -}}
{{- if le (len .Release.Name) 46 }}{{ .Release.Name }}
{{- else }}{{ .Release.Name | trunc 39 | trimSuffix "-" | trimSuffix "." }}-{{ .Release.Name | sha256sum | trunc 6 }}
{{- end }}
{{- end -}}
{{- define "gdi.brokerName" -}}{{ include "gdi.release" . }}-broker{{- end -}}
{{- define "gdi.brokerUrl" -}}
http://{{ include "gdi.brokerName" . }}.{{ .Release.Namespace }}.svc:{{ .Values.broker.service.port }}
{{- end -}}
{{- define "gdi.runsNamespace" -}}
{{ .Values.runs.namespace | default (printf "%s-runs" .Release.Namespace) }}
{{- end -}}
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
    {{- $name := dict "kubernetes.io/metadata.name" .namespace }}
    matchLabels: {{ .namespaceLabels | default $name | toJson }}
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
  ports:
    {{- range . }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "gdi.dns" -}}
- to: {{- include "gdi.peer" .Values.cluster.dns | nindent 4 }}
  ports:
    {{- range .Values.cluster.dns.ports | default (list 53) }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}

{{/* A value as text: Helm reads every number as a float, and would print 1000000 as 1e+06. */}}
{{- define "gdi.text" -}}{{ ternary . (toJson .) (kindIs "string" .) | quote }}{{- end -}}

{{/* Where pods of the broker's image run: its own and the migration's. */}}
{{- define "gdi.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .Values.broker.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.broker.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.broker.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* The broker's settings for its database: the migration's too. */}}
{{- define "gdi.databaseEnvironment" -}}
{{- $missing := "broker.database.url is missing: postgresql+asyncpg://USER@HOST/NAME" }}
- {name: TOKEN_BROKER_DATABASE_URL, value: {{ required $missing .Values.broker.database.url | quote }}}
{{- if .Values.broker.database.passwordSecret.name }}
- {name: TOKEN_BROKER_DATABASE_PASSWORD_FILE, value: /etc/gdi/database/password}
{{- end }}
{{- end -}}
{{- define "gdi.databaseVolume" -}}
{{- with .Values.broker.database.passwordSecret }}
{{- if .name }}
- {{- include "gdi.secret" (dict "volume" "database" "name" .name "items" (dict "password" .key)) | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A volume of keys of a Secret, {file: key}. 288 is 0440: root's, readable by the pod's group. */}}
{{- define "gdi.secret" -}}
name: {{ .volume }}
secret:
  secretName: {{ .name }}
  defaultMode: 288
  items:
    {{- range $file, $key := .items }}
    - {key: {{ $key }}, path: {{ $file }}}
    {{- end }}
{{- end -}}

{{/* The broker's environment but for broker.settings. */}}
{{- define "gdi.brokerEnvironment" -}}
{{- $b := .Values.broker }}
{{- $missing := "broker.publicUrl is missing: the https URL that browsers and gateways use" }}
- {name: TOKEN_BROKER_HOST, value: {{ $b.listen | quote }}}
- {name: TOKEN_BROKER_PORT, value: "8080"}
- {name: TOKEN_BROKER_OPERATIONS_HOST, value: {{ $b.listen | quote }}}
- {name: TOKEN_BROKER_OPERATIONS_PORT, value: "8082"}
- {name: TOKEN_BROKER_PUBLIC_URL, value: {{ required $missing $b.publicUrl | quote }}}
{{- include "gdi.databaseEnvironment" . }}
- {name: TOKEN_BROKER_OIDC_ISSUER, value: {{ required "broker.oidc.issuer is missing" $b.oidc.issuer | quote }}}
- {name: TOKEN_BROKER_CLIENT_ID, value: {{ required "broker.oidc.clientId is missing" $b.oidc.clientId | quote }}}
{{- if $b.oidc.clientKey.name }}
- {name: TOKEN_BROKER_CLIENT_KEY_FILE, value: /etc/gdi/oidc/client-key}
{{- else }}
- {name: TOKEN_BROKER_CLIENT_SECRET_FILE, value: /etc/gdi/oidc/client-secret}
{{- end }}
- {name: TOKEN_BROKER_ENROLMENT_FILE, value: /etc/gdi/enrolment/enrolment.yaml}
- {name: TOKEN_BROKER_VAULT_ADDR, value: {{ required "broker.vault.addr is missing" $b.vault.addr | quote }}}
- {name: TOKEN_BROKER_VAULT_MOUNT, value: {{ $b.vault.mount | quote }}}
- {name: TOKEN_BROKER_VAULT_AUTH, value: {{ $b.vault.auth }}}
{{- if eq $b.vault.auth "kubernetes" }}
- {name: TOKEN_BROKER_VAULT_AUTH_MOUNT, value: {{ $b.vault.authMount | quote }}}
- {name: TOKEN_BROKER_VAULT_ROLE, value: {{ $b.vault.role | quote }}}
- {name: TOKEN_BROKER_VAULT_TOKEN_FILE, value: /etc/gdi/tokens/vault}
{{- else }}
- {name: TOKEN_BROKER_VAULT_ROLE_ID_FILE, value: /etc/gdi/vault/role-id}
- {name: TOKEN_BROKER_VAULT_SECRET_ID_FILE, value: /etc/gdi/vault/secret-id}
{{- end }}
{{- if $b.vault.caSecret.name }}
- {name: TOKEN_BROKER_VAULT_CA_FILE, value: /etc/gdi/vault-ca/ca.crt}
{{- end }}
{{- with $b.resultStore }}
{{- if .location }}
- {name: TOKEN_BROKER_RESULT_STORE, value: {{ .location | quote }}}
{{- with .endpoint }}
- {name: TOKEN_BROKER_RESULT_STORE_ENDPOINT, value: {{ . | quote }}}
{{- end }}
- {name: TOKEN_BROKER_RESULT_STORE_REGION, value: {{ .region | quote }}}
- {name: TOKEN_BROKER_RESULT_STORE_CREDENTIALS_FILE, value: /etc/gdi/result-store/credentials.json}
{{- end }}
{{- end }}
- {name: TOKEN_BROKER_NARROWING, value: {{ $b.narrowing }}}
- {name: TOKEN_BROKER_RUN_TOKEN_LIFETIME, value: {{ include "gdi.text" $b.runTokenLifetime }}}
- {name: TOKEN_BROKER_TICKET_LIFETIME, value: {{ include "gdi.text" $b.ticketLifetime }}}
- {name: TOKEN_BROKER_REFRESH_TOKEN_LIFETIME, value: {{ include "gdi.text" $b.refreshTokenLifetime }}}
- {name: TOKEN_BROKER_DRAIN_SECONDS, value: {{ include "gdi.text" $b.drainSeconds }}}
{{- end -}}

{{/* broker.settings as environment variables: of {own, settings}, what the chart sets itself and the map. */}}
{{- define "gdi.settings" -}}
{{- $own := .own }}
{{- range $name, $value := .settings }}
{{- if hasPrefix "TOKEN_BROKER_" $name }}
{{- fail (printf "broker.settings.%s: leave the prefix TOKEN_BROKER_ out" $name) }}
{{- else if regexMatch "(^|_)(PASSWORD|SECRET|TOKEN|KEY)$" $name }}
{{- fail (printf "broker.settings.%s: a secret is never a value, but a file of a Secret" $name) }}
{{- else if contains (printf "{name: TOKEN_BROKER_%s," $name) $own }}
{{- fail (printf "broker.settings.%s: the chart sets it, by a value of its own (values.yaml)" $name) }}
{{- end }}
- {name: TOKEN_BROKER_{{ $name }}, value: {{ include "gdi.text" $value }}}
{{- end }}
{{- end -}}
