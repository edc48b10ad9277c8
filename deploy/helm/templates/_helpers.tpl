{{- define "ordersync.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "ordersync.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ordersync.labels" -}}
{{ include "ordersync.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "ordersync.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ordersync.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ordersync.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* A setting as text. Helm takes every number for a fraction, and would write 10000000 as 1e+07. */}}
{{- define "ordersync.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ printf "%.0f" . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "ordersync.probe" -}}
{{- if eq .Values.probes.kind "exec" }}
exec:
  command: [ordersync, health, --live]
{{- else }}
httpGet:
  path: /healthz
  port: metrics
{{- end }}
timeoutSeconds: {{ .Values.probes.timeoutSeconds }}
{{- end -}}

{{/* A Deployment: dict "root" the context, "name" polls or bulk. */}}
{{- define "ordersync.deployment" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .name -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "ordersync.fullname" $root }}-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "ordersync.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  {{- if not (and (eq .name "polls") $root.Values.keda.enabled) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  # A worker that ends right after its start, since the login is refused, does not replace one that works.
  minReadySeconds: 15
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "ordersync.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    metadata:
      labels:
        {{- include "ordersync.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
        {{- with $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $root.Values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "ordersync.serviceAccount" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ add $root.Values.graceSeconds 20 }}
      {{- with $root.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: worker
          image: {{ include "ordersync.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [run]
          env:
            - {name: ORDERSYNC_DATA_DIR, value: /var/lib/ordersync/worker}
            - {name: ORDERSYNC_SECRETS_DIR, value: /run/secrets/ordersync}
            - {name: ORDERSYNC_GRACE_SECONDS, value: {{ $root.Values.graceSeconds | quote }}}
            - {name: ORDERSYNC_LOG__FORMAT, value: json}
            - {name: ORDERSYNC_METRICS__HOST, value: "0.0.0.0"}
            - {name: ORDERSYNC_METRICS__PORT, value: {{ $root.Values.metrics.port | quote }}}
            {{- range $class, $places := $values.concurrency }}
            - {name: ORDERSYNC_CONCURRENCY__{{ upper $class }}, value: {{ $places | quote }}}
            {{- end }}
            {{- if or $root.Values.accounts.existingConfigMap $root.Values.accounts.existingSecret }}
            - {name: ORDERSYNC_ACCOUNTS_FILE, value: /etc/ordersync/accounts/{{ $root.Values.accounts.key }}}
            {{- end }}
            {{- range $name, $value := $root.Values.settings }}
            - {name: {{ $name }}, value: {{ include "ordersync.text" $value | quote }}}
            {{- end }}
            {{- with $root.Values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: metrics, containerPort: {{ $root.Values.metrics.port }}, protocol: TCP}
          startupProbe:
            {{- include "ordersync.probe" $root | trim | nindent 12 }}
            periodSeconds: 5
            failureThreshold: {{ max 1 (div $root.Values.probes.startSeconds 5) }}
          livenessProbe:
            {{- include "ordersync.probe" $root | trim | nindent 12 }}
            periodSeconds: {{ $root.Values.probes.periodSeconds }}
            failureThreshold: {{ $root.Values.probes.failureThreshold }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: state, mountPath: /var/lib/ordersync}
            - {name: secrets, mountPath: /run/secrets/ordersync, readOnly: true}
            {{- if or $root.Values.accounts.existingConfigMap $root.Values.accounts.existingSecret }}
            - {name: accounts, mountPath: /etc/ordersync/accounts, readOnly: true}
            {{- end }}
            {{- with $root.Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        # The heartbeat, and the highest numbers that were published: events and state are in Redis.
        - name: state
          emptyDir: {medium: Memory, sizeLimit: {{ $root.Values.stateSizeLimit }}}
        - name: secrets
          secret:
            secretName: {{ required "existingSecret: name the Secret with the settings" $root.Values.existingSecret }}
            defaultMode: 0440
        {{- if $root.Values.accounts.existingSecret }}
        - name: accounts
          secret: {secretName: {{ $root.Values.accounts.existingSecret }}, defaultMode: 0440}
        {{- else if $root.Values.accounts.existingConfigMap }}
        - name: accounts
          configMap: {name: {{ $root.Values.accounts.existingConfigMap }}, defaultMode: 0440}
        {{- end }}
        {{- with $root.Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}
