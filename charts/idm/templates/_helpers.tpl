{{- define "idm.labels" -}}
app.kubernetes.io/name: idm-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: idm
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "idm.selector" -}}
app.kubernetes.io/name: idm-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "idm.managerLabels" -}}
app.kubernetes.io/name: idm-manager
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: manager
app.kubernetes.io/part-of: idm
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "idm.managerSelector" -}}
app.kubernetes.io/name: idm-manager
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "idm.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}
