{{- define "superserve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters: the longest suffix and a pod's own stay within 63. */}}
{{- define "superserve.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "superserve.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "superserve.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "superserve.selector" -}}
app.kubernetes.io/name: {{ include "superserve.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "superserve.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "superserve.selector" . }}
{{- end -}}

{{/* The metadata of an object: (dict "root" $ "name" "…" "labels" {} "annotations" {}) */}}
{{- define "superserve.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "superserve.labels" .root | nindent 2 }}
  {{- with merge (dict) (default (dict) .labels) .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "superserve.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "superserve.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "superserve.image" -}}
{{- $name := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "superserve.isPostgres" -}}
{{- if eq .Values.database.kind "postgres" }}true{{ end -}}
{{- end -}}

{{- define "superserve.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled -}}
{{- printf "%s-tls" (include "superserve.fullname" .) -}}
{{- else -}}
{{- .Values.tls.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* How the chart's own clients reach the service: `helm test` and the command line in a pod. */}}
{{- define "superserve.clientEnv" -}}
- name: SUPERSERVE_API_URL
  value: {{ ternary "https" "http" .Values.tls.enabled }}://{{ include "superserve.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- if and .Values.tls.enabled .Values.tls.caKey }}
- name: SUPERSERVE_CA_CERT
  value: /run/superserve/tls/{{ .Values.tls.caKey }}
{{- end }}
{{- end -}}

{{- define "superserve.appProtocol" -}}
{{- default (ternary "https" "kubernetes.io/h2c" .Values.tls.enabled) .Values.service.appProtocol -}}
{{- end -}}

{{/* How many replicas there will be at least. */}}
{{- define "superserve.replicas" -}}
{{- if not (include "superserve.isPostgres" .) -}}1
{{- else if .Values.autoscaling.enabled -}}{{ .Values.autoscaling.minReplicas }}
{{- else -}}{{ default 2 .Values.replicaCount }}
{{- end -}}
{{- end -}}

{{/* The gRPC services that may be reached from outside. */}}
{{- define "superserve.publicServices" -}}
{{- $services := list "SecretsService" "AgentsService" "TokensService" "AuditService" -}}
{{- if .Values.expose.runtime }}{{ $services = append $services "RuntimeService" }}{{ end -}}
{{- toJson $services -}}
{{- end -}}
