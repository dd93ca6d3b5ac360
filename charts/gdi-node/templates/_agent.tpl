{{/* The agent's container: of {all, own}, the release and the gateway's environment. It listens nowhere. */}}
{{- define "node.agent" -}}
{{- $g := .all.Values.gateway }}
- name: agent
  image: {{ include "node.image" (dict "image" $g.image "version" .all.Chart.AppVersion) }}
  imagePullPolicy: {{ $g.image.pullPolicy }}
  args: [agent]
  securityContext: {{- include "node.containerSecurity" .all | nindent 4 }}
  env:
    {{- .own | nindent 4 }}
    {{- include "node.settings" (dict "own" .own "settings" $g.settings) | nindent 4 }}
    - {name: NODE_GATEWAY_LAUNCHER, value: pods}
    - {name: NODE_GATEWAY_LAUNCHER_PODS_FILE, value: /etc/gdi/pods/pods.yaml}
    - {name: NODE_GATEWAY_AGENT_FOLDER, value: /var/run/gdi/agent}
    - {name: NODE_GATEWAY_AGENT_MAX_RUNS, value: {{ include "node.text" .all.Values.agent.maxRuns }}}
  resources: {{- toYaml .all.Values.agent.resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- if empty $g.database.url }}
    - {name: state, mountPath: /var/lib/gdi}
    {{- end }}
    {{- if $g.database.passwordSecret.name }}
    - {name: database, mountPath: /etc/gdi/database, readOnly: true}
    {{- end }}
    - {name: policy, mountPath: /etc/gdi/policy, readOnly: true}
    - {name: datasets, mountPath: /etc/gdi/datasets, readOnly: true}
    - {name: key, mountPath: /etc/gdi/key, readOnly: true}
    - {name: agent, mountPath: /var/run/gdi}
    - {name: pods, mountPath: /etc/gdi/pods, readOnly: true}
    - {name: cluster, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}
