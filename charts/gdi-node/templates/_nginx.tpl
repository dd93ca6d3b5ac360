{{/* nginx before the bytes: its configuration is made from the gateway's settings as the pod starts, into memory. */}}
{{- define "node.nginxListen" -}}
{{ contains ":" .Values.gateway.listen | ternary (printf "[%s]" .Values.gateway.listen) .Values.gateway.listen }}:8083
{{- end -}}
{{/* Of {all, own}: the gateway's environment. */}}
{{- define "node.nginxConfig" -}}
{{- $g := .all.Values.gateway }}
{{- if $g.internalTls.serverSecret }}
{{- fail "gateway.nginx.enabled: with gateway.internalTls the gateway itself reads for the TES; set one of the two" }}
{{- end }}
- name: nginx-config
  image: {{ include "node.image" (dict "image" $g.image "version" .all.Chart.AppVersion) }}
  imagePullPolicy: {{ $g.image.pullPolicy }}
  securityContext: {{- include "node.containerSecurity" .all | nindent 4 }}
  args:
    - nginx-config
    - --listen
    - {{ include "node.nginxListen" .all | quote }}
    - --authorities
    - {{ $g.nginx.authorities | quote }}
    - --into
    - /run/gdi-nginx/gateway.conf
  env:
    {{- .own | nindent 4 }}
    {{- include "node.settings" (dict "own" .own "settings" $g.settings) | nindent 4 }}
  resources: {{- toYaml .all.Values.agent.resources | nindent 4 }}
  volumeMounts:
    - {name: nginx, mountPath: /run/gdi-nginx}
    - {name: door, mountPath: /etc/gdi/door, readOnly: true}
    - {name: policy, mountPath: /etc/gdi/policy, readOnly: true}
    - {name: datasets, mountPath: /etc/gdi/datasets, readOnly: true}
{{- end -}}
{{- define "node.nginx" -}}
{{- $n := .Values.gateway.nginx }}
- name: nginx
  image: {{ $n.image.repository }}:{{ $n.image.tag }}
  imagePullPolicy: {{ $n.image.pullPolicy }}
  securityContext: {{- include "node.containerSecurity" . | nindent 4 }}
  command: [nginx, -c, /etc/gdi/nginx/nginx.conf, -e, /dev/stderr, -g, daemon off;]
  ports: [{name: data, containerPort: 8083}]
  startupProbe: {tcpSocket: {port: data}, periodSeconds: 2, failureThreshold: 60}
  livenessProbe: {tcpSocket: {port: data}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
  lifecycle: {preStop: {exec: {command: [nginx, -c, /etc/gdi/nginx/nginx.conf, -e, /dev/stderr, -s, quit]}}}
  resources: {{- toYaml $n.resources | nindent 4 }}
  volumeMounts:
    - {name: nginx, mountPath: /run/gdi-nginx}
    - {name: nginx-main, mountPath: /etc/gdi/nginx, readOnly: true}
{{- end -}}
{{/* What is the same for every node; the rest is included. */}}
{{- define "node.nginxMain" -}}
worker_processes 1;
pid /run/gdi-nginx/pid;
error_log /dev/stderr warn;
events { worker_connections 1024; }
http {
    access_log off;
    {{- range list "client_body" "proxy" "fastcgi" "uwsgi" "scgi" }}
    {{ . }}_temp_path /run/gdi-nginx/{{ . }};
    {{- end }}
    include /run/gdi-nginx/gateway.conf;
}
{{- end -}}
