{{- /* The name of every object. The address of hooks does not depend on the release. */ -}}
{{- define "drain-wait.name" -}}
{{ .Values.fullnameOverride | default "drain-wait" }}
{{- end }}

{{- define "drain-wait.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "drain-wait.name" .) | toYaml }}
{{- end }}

{{- define "drain-wait.selector" -}}
app.kubernetes.io/name: {{ include "drain-wait.name" . }}
{{- end }}

{{- define "drain-wait.labels" -}}
{{ include "drain-wait.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Name and labels of an object in the namespace of the release. */ -}}
{{- define "drain-wait.metadata" -}}
name: {{ include "drain-wait.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "drain-wait.labels" . | nindent 2 }}
{{- end }}

{{- define "drain-wait.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* 82 % of the memory limit, in whole MiB; nothing without a limit. */ -}}
{{- define "drain-wait.goMemLimit" -}}
{{- with (.Values.resources.limits).memory -}}
{{- $mi := mul (regexFind "^[0-9]+" .) (ternary 1024 1 (hasSuffix "Gi" .)) -}}
{{ div (add (mul $mi 82) 50) 100 }}MiB
{{- end }}
{{- end }}

{{- /* SIGTERM finds waits that may need a whole settle time, and a controller that is late. */ -}}
{{- define "drain-wait.gracePeriod" -}}
{{- $grace := int .Values.terminationGracePeriodSeconds -}}
{{- $least := int (add 75 (max .Values.settleSeconds.alb .Values.settleSeconds.nlb)) -}}
{{- if lt $grace $least }}
{{- fail (printf "terminationGracePeriodSeconds is %d: want %d or more, the longest of settleSeconds and 75" $grace $least) }}
{{- end -}}
{{ $grace }}
{{- end }}

{{- /* What is read of the namespaces that are served. */ -}}
{{- define "drain-wait.rules" -}}
# Which pod calls, from the cache and from the API server itself.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Which target groups a pod may be in.
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [list, watch]
- apiGroups: [elbv2.k8s.aws] # the AWS Load Balancer Controller
  resources: [targetgroupbindings]
  verbs: [list, watch]
- apiGroups: [eks.amazonaws.com] # EKS Auto Mode
  resources: [targetgroupbindings]
  verbs: [list, watch]
{{- end }}

{{- define "drain-wait.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "drain-wait.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
