{{/* Who may call without a token of the service: the rules, and what the cluster's own keys are had with. */}}
{{- define "superserve.identitiesConfigMap" -}}
{{- if .Values.identities.existingConfigMap -}}
{{- .Values.identities.existingConfigMap -}}
{{- else if .Values.identities.rules -}}
{{- include "superserve.fullname" . }}-identities
{{- end -}}
{{- end -}}

{{- define "superserve.identitiesEnv" -}}
{{- if include "superserve.identitiesConfigMap" . }}
- name: SUPERSERVE_IDENTITIES
  value: /run/superserve/identities/identities.toml
{{- end }}
{{- end -}}

{{- define "superserve.identitiesMounts" -}}
{{- if include "superserve.identitiesConfigMap" . }}
- name: identities
  mountPath: /run/superserve/identities
  readOnly: true
{{- end }}
{{- if .Values.identities.clusterKeys.enabled }}
- name: cluster
  mountPath: /run/superserve/cluster
  readOnly: true
{{- end }}
{{- end -}}

{{- define "superserve.identitiesVolumes" -}}
{{- with include "superserve.identitiesConfigMap" . }}
- name: identities
  configMap:
    name: {{ . }}
    items:
      - key: identities.toml
        path: identities.toml
{{- end }}
{{- with .Values.identities.clusterKeys }}
{{- if .enabled }}
- name: cluster
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          {{- with .audience }}
          audience: {{ . }}
          {{- end }}
          path: token
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
{{- end }}
{{- end }}
{{- end -}}

{{- define "superserve.validateIdentities" -}}
{{- with .Values.identities -}}
{{- if and .rules .existingConfigMap -}}
{{- fail "identities.existingConfigMap: takes the place of identities.rules; give one of them" -}}
{{- end -}}
{{- if and .clusterKeys.enabled (not (or .rules .existingConfigMap)) -}}
{{- fail "identities.clusterKeys.enabled: is of use to rules only; give identities.rules" -}}
{{- end -}}
{{- end -}}
{{- end -}}
