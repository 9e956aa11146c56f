{{/* What cannot be is refused with a sentence before anything is made. */}}
{{- define "superserve.validate" -}}
{{- with .Values.keyring.transit -}}
{{- if .enabled -}}
{{- if $.Values.keyring.awsKms.key -}}
{{- fail "keyring.awsKms.key: keyring.transit.enabled is true too; one of them wraps" -}}
{{- end -}}
{{- if not .address -}}
{{- fail "keyring.transit.address: say where OpenBao or Vault is, such as https://bao.example:8200" -}}
{{- end -}}
{{- if not (or .role .tokenSecret) -}}
{{- fail "keyring.transit.role: give the role by which the pods are let in, or a tokenSecret" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if include "superserve.isPostgres" . -}}
{{- if not .Values.database.postgres.existingSecret -}}
{{- fail "database.postgres.existingSecret: name the secret that holds the database's URL, or take database.kind=sqlite" -}}
{{- end -}}
{{- if not (or .Values.keyring.existingSecret .Values.keyring.transit.enabled .Values.keyring.awsKms.key) -}}
{{- fail "keyring.existingSecret: with PostgreSQL every replica needs the same keyring. Make one with `superserve keys generate` and put it into a secret" -}}
{{- end -}}
{{- if not .Values.bootstrapToken.existingSecret -}}
{{- fail "bootstrapToken.existingSecret: with PostgreSQL the first token is given. Make one with `superserve tokens generate` and put it into a secret" -}}
{{- end -}}
{{- else -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail "autoscaling.enabled: SQLite serves one replica only. Take database.kind=postgres to scale" -}}
{{- end -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- fail "replicaCount: SQLite serves one replica only. Take database.kind=postgres for more" -}}
{{- end -}}
{{- if .Values.database.postgres.existingSecret -}}
{{- fail "database.postgres.existingSecret: is for database.kind=postgres only" -}}
{{- end -}}
{{- end -}}
{{- /* Helm lets a release begin with a digit and have dots; it lets none have capitals */ -}}
{{- if not (regexMatch "(?i)^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "superserve.fullname" .)) -}}
{{- fail (printf "fullnameOverride: %q cannot be a service's name (a to z, 0 to 9 and -, a letter first); give one that can" (include "superserve.fullname" .)) -}}
{{- end -}}
{{- include "superserve.validateTls" . -}}
{{- include "superserve.validateIdentities" . -}}
{{- include "superserve.validateRoutes" . -}}
{{- include "superserve.validateNumbers" . -}}
{{- $given := include "superserve.serverEnv" . | fromYamlArray -}}
{{- range .Values.extraEnv -}}
{{- $name := .name -}}
{{- range $given -}}
{{- if eq .name $name -}}
{{- fail (printf "extraEnv: %s is set by the chart already" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Half of what TLS needs would be plaintext, unnoticed. */}}
{{- define "superserve.validateTls" -}}
{{- with .Values.tls -}}
{{- if not .enabled -}}
{{- if or .existingSecret .clientCaSecret .certManager.enabled -}}
{{- fail "tls.enabled: is false, but a secret or cert-manager is given under tls" -}}
{{- end -}}
{{- else if .certManager.enabled -}}
{{- if .existingSecret -}}
{{- fail "tls.existingSecret: takes the place of tls.certManager.enabled; give one of them" -}}
{{- end -}}
{{- if not .certManager.issuerRef.name -}}
{{- fail "tls.certManager.issuerRef.name: name the issuer" -}}
{{- end -}}
{{- else if not .existingSecret -}}
{{- fail "tls.existingSecret: name a secret of type kubernetes.io/tls, or set tls.certManager.enabled" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.expose.backendTlsPolicy.enabled (not .Values.tls.enabled) -}}
{{- fail "expose.backendTlsPolicy.enabled: the service has no TLS; set tls.enabled" -}}
{{- end -}}
{{- end -}}

{{/* A listener takes a name for one kind of route; the other is ignored, and only its status says so. */}}
{{- define "superserve.validateRoutes" -}}
{{- $http := .Values.expose.httpRoute -}}
{{- $grpc := .Values.expose.grpcRoute -}}
{{- if and $http.enabled $grpc.enabled (eq (toJson $http.parentRefs) (toJson $grpc.parentRefs)) -}}
{{- $both := false -}}
{{- range $http.hostnames }}{{ if has . $grpc.hostnames }}{{ $both = true }}{{ end }}{{ end -}}
{{- if or $both (not $http.hostnames) (not $grpc.hostnames) -}}
{{- fail "expose.grpcRoute.hostnames: give the two routes hostnames of their own, or listeners; one listener takes a name for one kind of route" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "superserve.validateNumbers" -}}
{{- with .Values.terminationGracePeriodSeconds -}}
{{- if lt (int64 .) (add $.Values.config.shutdownTimeout 3) -}}
{{- fail "terminationGracePeriodSeconds: is less than config.shutdownTimeout and the three seconds before it; calls under way would be cut off" -}}
{{- end -}}
{{- end -}}
{{- if eq (int .Values.service.port) (int .Values.service.opsPort) -}}
{{- fail "service.opsPort: is service.port already" -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail "autoscaling.maxReplicas: is less than autoscaling.minReplicas" -}}
{{- end -}}
{{- if not (or .targetCPUUtilizationPercentage .targetMemoryUtilizationPercentage .metrics) -}}
{{- fail "autoscaling.metrics: name one, or a target of CPU or memory" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.updateStrategy -}}
{{- if and (regexMatch "^0+%?$" (toString .maxUnavailable)) (regexMatch "^0+%?$" (toString .maxSurge)) -}}
{{- fail "updateStrategy.maxSurge: an update needs room; it and maxUnavailable cannot both be 0" -}}
{{- end -}}
{{- end -}}
{{- end -}}
