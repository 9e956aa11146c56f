{{/* Where the database is, for server and migration alike. The URL is a file, never a variable. */}}
{{- define "superserve.databaseEnv" -}}
{{- if include "superserve.isPostgres" . -}}
- name: SUPERSERVE_DATABASE_URL_FILE
  value: /run/superserve/database/url
- name: SUPERSERVE_DATABASE_MAX_CONNECTIONS
  value: {{ .Values.database.postgres.maxConnections | quote }}
{{- end }}
- name: SUPERSERVE_LOG_LEVEL
  value: {{ .Values.config.logLevel }}
- name: SUPERSERVE_LOG_FORMAT
  value: {{ .Values.config.logFormat }}
{{- end -}}

{{/* A volume with one key of a secret: (dict "name" "…" "secret" "…" "key" "…" "path" "…") */}}
{{- define "superserve.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      - key: {{ .key }}
        path: {{ .path }}
{{- end -}}

{{- define "superserve.databaseVolume" -}}
{{- if include "superserve.isPostgres" . -}}
{{- include "superserve.secretVolume" (dict "name" "database" "secret" .Values.database.postgres.existingSecret "key" .Values.database.postgres.existingSecretKey "path" "url") -}}
{{- end -}}
{{- with .Values.database.postgres.tlsSecret }}
- name: database-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- define "superserve.databaseVolumeMount" -}}
- name: database
  mountPath: /run/superserve/database
  readOnly: true
{{- if .Values.database.postgres.tlsSecret }}
- name: database-tls
  mountPath: /run/superserve/database-tls
  readOnly: true
{{- end }}
{{- end -}}

{{- define "superserve.migrateContainer" -}}
name: migrate
image: {{ include "superserve.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [migrate]
env:
  {{- include "superserve.databaseEnv" . | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
resources:
  {{- toYaml (default .Values.resources .Values.migration.resources) | nindent 2 }}
volumeMounts:
  {{- include "superserve.databaseVolumeMount" . | nindent 2 }}
{{- end -}}

{{/* What pods of every kind have in common. */}}
{{- define "superserve.podBase" -}}
automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- if not (kindIs "invalid" .Values.hostUsers) }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
{{- end -}}

{{- define "superserve.spread" -}}
{{- if not (kindIs "invalid" .Values.topologySpreadConstraints) }}
topologySpreadConstraints:
{{- with .Values.topologySpreadConstraints }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  {{- /* Not by zone too: where nodes have no such label, the scheduler would pass over all of it */}}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "superserve.selector" . | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "superserve.serverEnv" -}}
- name: SUPERSERVE_LISTEN
  value: "[::]:8080"
- name: SUPERSERVE_OPS_LISTEN
  value: "[::]:9090"
- name: SUPERSERVE_DATA_DIR
  value: /data
- name: SUPERSERVE_REQUEST_TIMEOUT
  value: {{ .Values.config.requestTimeout | quote }}
- name: SUPERSERVE_SHUTDOWN_TIMEOUT
  value: {{ int64 .Values.config.shutdownTimeout | quote }}
- name: SUPERSERVE_RATE_LIMIT
  value: {{ int64 .Values.config.rateLimit | quote }}
- name: SUPERSERVE_MAX_FAILED_AUTH
  value: {{ int64 .Values.config.maxFailedAuth | quote }}
- name: SUPERSERVE_MAX_CONCURRENT_REQUESTS
  value: {{ int64 .Values.config.maxConcurrentRequests | quote }}
{{- with .Values.config.maxConnectionAge }}
- name: SUPERSERVE_MAX_CONNECTION_AGE
  value: {{ . | quote }}
{{- end }}
{{- with .Values.config.corsOrigins }}
- name: SUPERSERVE_CORS_ORIGINS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.config.tracing }}
{{- if .endpoint }}
- name: SUPERSERVE_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: SUPERSERVE_TRACE_SAMPLE_RATIO
  value: {{ .sampleRatio | quote }}
- name: SUPERSERVE_TRACE_CALLERS
  value: {{ int64 .callers | quote }}
{{- if .headersSecret }}
- name: SUPERSERVE_OTLP_HEADERS_FILE
  value: /run/superserve/otlp/headers
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.tls.enabled }}
- name: SUPERSERVE_TLS_CERT
  value: /run/superserve/tls/tls.crt
- name: SUPERSERVE_TLS_KEY
  value: /run/superserve/tls/tls.key
{{- if .Values.tls.clientCaSecret }}
- name: SUPERSERVE_TLS_CLIENT_CA
  value: /run/superserve/client-ca/ca.crt
- name: SUPERSERVE_TLS_CLIENT_REQUIRED
  value: {{ .Values.tls.clientRequired | quote }}
{{- end }}
{{- else }}
- name: SUPERSERVE_INSECURE
  value: "true"
{{- end }}
{{- if .Values.keyring.existingSecret }}
- name: SUPERSERVE_KEYRING
  value: /run/superserve/keyring/keyring.json
{{- end }}
{{- with .Values.keyring.awsKms }}
{{- if .key }}
- name: SUPERSERVE_KEY_PROVIDER
  value: aws-kms
- name: SUPERSERVE_DATA_KEY_CACHE
  value: {{ int64 $.Values.keyring.dataKeyCache | quote }}
- name: SUPERSERVE_AWS_KMS_KEY
  value: {{ .key | quote }}
{{- with .endpoint }}
- name: SUPERSERVE_AWS_KMS_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.keyring.transit }}
{{- if .enabled }}
- name: SUPERSERVE_KEY_PROVIDER
  value: transit
- name: SUPERSERVE_DATA_KEY_CACHE
  value: {{ int64 $.Values.keyring.dataKeyCache | quote }}
- name: SUPERSERVE_TRANSIT_ADDRESS
  value: {{ .address | quote }}
- name: SUPERSERVE_TRANSIT_KEY
  value: {{ .key | quote }}
- name: SUPERSERVE_TRANSIT_MOUNT
  value: {{ .mount | quote }}
{{- with .namespace }}
- name: SUPERSERVE_TRANSIT_NAMESPACE
  value: {{ . | quote }}
{{- end }}
{{- if .caSecret }}
- name: SUPERSERVE_TRANSIT_CA
  value: /run/superserve/transit-ca/ca.crt
{{- end }}
{{- if .tokenSecret }}
- name: SUPERSERVE_TRANSIT_TOKEN_PATH
  value: /run/superserve/transit/token
{{- else }}
- name: SUPERSERVE_TRANSIT_ROLE
  value: {{ .role | quote }}
- name: SUPERSERVE_TRANSIT_AUTH_MOUNT
  value: {{ .authMount | quote }}
- name: SUPERSERVE_TRANSIT_JWT_PATH
  value: /run/superserve/transit/token
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.bootstrapToken.existingSecret }}
- name: SUPERSERVE_BOOTSTRAP_TOKEN_FILE
  value: /run/superserve/bootstrap/token
- name: SUPERSERVE_TOKEN_FILE
  value: /run/superserve/bootstrap/token
{{- else }}
# The command line in this pod (`kubectl exec`) finds the token that the first start has made
- name: SUPERSERVE_TOKEN_FILE
  value: /data/admin-token
# What is shown is the pod's log, which others read and keep
- name: SUPERSERVE_SHOW_ADMIN_TOKEN
  value: "false"
{{- end }}
{{- include "superserve.identitiesEnv" . }}
{{- if include "superserve.isPostgres" . }}
- name: SUPERSERVE_AUTO_MIGRATE
  value: {{ eq .Values.migration.mode "server" | quote }}
{{- end }}
{{ include "superserve.databaseEnv" . }}
{{- if .Values.tls.enabled }}
# For the command line in this pod: the certificate is for the service's name, not for localhost
{{ include "superserve.clientEnv" . }}
{{- end }}
{{- end -}}

{{- define "superserve.serverContainer" -}}
name: superserve
image: {{ include "superserve.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - serve
  {{- with .Values.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- include "superserve.serverEnv" . | nindent 2 }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: api
    containerPort: 8080
  - name: ops
    containerPort: 9090
# Probes speak to the operator's port, which is plaintext also where the service is not: gRPC probes cannot do TLS
startupProbe:
  {{- toYaml (default (dict "grpc" (dict "port" 9090) "periodSeconds" 1 "failureThreshold" 120) .Values.probes.startup) | nindent 2 }}
readinessProbe:
  {{- toYaml (default (dict "grpc" (dict "port" 9090) "periodSeconds" 2 "timeoutSeconds" 2) .Values.probes.readiness) | nindent 2 }}
# Not the health service: that follows the database, and a restart would not bring it back
livenessProbe:
  {{- toYaml (default (dict "httpGet" (dict "path" "/livez" "port" "ops") "periodSeconds" 10 "timeoutSeconds" 5) .Values.probes.liveness) | nindent 2 }}
# Endpoints are taken away while the pod still answers
lifecycle:
  preStop:
    sleep:
      seconds: 3
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - name: data
    mountPath: /data
  {{- if include "superserve.isPostgres" . }}
  {{- include "superserve.databaseVolumeMount" . | nindent 2 }}
  {{- end }}
  {{- if .Values.keyring.existingSecret }}
  - name: keyring
    mountPath: /run/superserve/keyring
    readOnly: true
  {{- end }}
  {{- if .Values.keyring.transit.enabled }}
  - name: transit
    mountPath: /run/superserve/transit
    readOnly: true
  {{- if .Values.keyring.transit.caSecret }}
  - name: transit-ca
    mountPath: /run/superserve/transit-ca
    readOnly: true
  {{- end }}
  {{- end }}
  {{- if .Values.config.tracing.headersSecret }}
  - name: otlp
    mountPath: /run/superserve/otlp
    readOnly: true
  {{- end }}
  {{- if .Values.bootstrapToken.existingSecret }}
  - name: bootstrap
    mountPath: /run/superserve/bootstrap
    readOnly: true
  {{- end }}
  {{- if .Values.tls.enabled }}
  - name: tls
    mountPath: /run/superserve/tls
    readOnly: true
  {{- if .Values.tls.clientCaSecret }}
  - name: client-ca
    mountPath: /run/superserve/client-ca
    readOnly: true
  {{- end }}
  {{- end }}
  {{- with include "superserve.identitiesMounts" . }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The server's pod. The volume of SQLite's data is left to the caller's `claim`. */}}
{{- define "superserve.pod" -}}
metadata:
  labels:
    {{- include "superserve.selector" . | nindent 4 }}
    {{- with merge (dict) .Values.podLabels .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge (dict) .Values.podAnnotations .Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "superserve.podBase" . | nindent 2 }}
  serviceAccountName: {{ include "superserve.serviceAccountName" . }}
  # The pause before the end, the drain, and some seconds to close the books
  terminationGracePeriodSeconds: {{ int64 (default (add .Values.config.shutdownTimeout 10) .Values.terminationGracePeriodSeconds) }}
  {{- if include "superserve.isPostgres" . }}
  {{- include "superserve.spread" . | nindent 2 }}
  {{- end }}
  {{- $migrates := and (include "superserve.isPostgres" .) (eq .Values.migration.mode "init") }}
  {{- if or $migrates .Values.extraInitContainers }}
  initContainers:
    {{- if $migrates }}
    - {{- include "superserve.migrateContainer" . | nindent 6 }}
    {{- end }}
    {{- with .Values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - {{- include "superserve.serverContainer" . | nindent 6 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- if include "superserve.isPostgres" . }}
    - name: data
      emptyDir:
        sizeLimit: 16Mi
    {{- include "superserve.databaseVolume" . | nindent 4 }}
    {{- else if .Values.database.sqlite.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.database.sqlite.existingClaim }}
    {{- end }}
    {{- with .Values.keyring.existingSecret }}
    {{- include "superserve.secretVolume" (dict "name" "keyring" "secret" . "key" $.Values.keyring.existingSecretKey "path" "keyring.json") | nindent 4 }}
    {{- end }}
    {{- with .Values.keyring.transit }}
    {{- if .enabled }}
    {{- if .tokenSecret }}
    {{- include "superserve.secretVolume" (dict "name" "transit" "secret" .tokenSecret "key" "token" "path" "token") | nindent 4 }}
    {{- else }}
    - name: transit
      projected:
        defaultMode: 0440
        sources:
          - serviceAccountToken:
              path: token
              expirationSeconds: 3600
              {{- with .audience }}
              audience: {{ . | quote }}
              {{- end }}
    {{- end }}
    {{- with .caSecret }}
    {{- include "superserve.secretVolume" (dict "name" "transit-ca" "secret" . "key" "ca.crt" "path" "ca.crt") | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- end }}
    {{- with .Values.config.tracing.headersSecret }}
    {{- include "superserve.secretVolume" (dict "name" "otlp" "secret" . "key" "headers" "path" "headers") | nindent 4 }}
    {{- end }}
    {{- with .Values.bootstrapToken.existingSecret }}
    {{- include "superserve.secretVolume" (dict "name" "bootstrap" "secret" . "key" $.Values.bootstrapToken.existingSecretKey "path" "token") | nindent 4 }}
    {{- end }}
    {{- if .Values.tls.enabled }}
    - name: tls
      secret:
        secretName: {{ include "superserve.tlsSecret" . }}
        defaultMode: 0440
    {{- with .Values.tls.clientCaSecret }}
    {{- include "superserve.secretVolume" (dict "name" "client-ca" "secret" . "key" "ca.crt" "path" "ca.crt") | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with include "superserve.identitiesVolumes" . }}
    {{- . | trim | nindent 4 }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
