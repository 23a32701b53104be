# The role of the service: by Pod Identity, or by IRSA if oidc_provider_arn is given.
# The policies are those of the files in deploy/, so use it from a clone:
#
#   module "drain_wait_role" {
#     source       = "./<clone>/deploy/iam/terraform" # a relative path
#     cluster_name = "my-cluster"
#   }

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.29" # the first with aws_eks_pod_identity_association
    }
  }
}

variable "cluster_name" {
  description = "The cluster."
  type        = string
}

variable "oidc_provider_arn" {
  description = "For IRSA: the ARN of the cluster's IAM OIDC provider. Null: Pod Identity."
  type        = string
  default     = null
}

variable "assume_role_arns" {
  description = "Roles of other accounts, which TargetGroupBindings name in iamRoleArnToAssume."
  type        = list(string)
  default     = []
}

variable "role_name" {
  description = "The name of the role."
  type        = string
  default     = "drain-wait"
}

variable "namespace" {
  description = "The namespace of the service."
  type        = string
  default     = "drain-wait"
}

variable "service_account" {
  description = "The service account of the service."
  type        = string
  default     = "drain-wait"
}

locals {
  irsa          = var.oidc_provider_arn != null
  provider      = local.irsa ? regex("oidc-provider/(.+)$", var.oidc_provider_arn)[0] : ""
  cross_account = jsondecode(file("${path.module}/../../iam-policy-cross-account.json"))

  trust_irsa = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = var.oidc_provider_arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = { StringEquals = {
        "${local.provider}:aud" = "sts.amazonaws.com"
        "${local.provider}:sub" = "system:serviceaccount:${var.namespace}:${var.service_account}"
      } }
    }]
  }
}

resource "aws_iam_role" "this" {
  name               = var.role_name
  assume_role_policy = local.irsa ? jsonencode(local.trust_irsa) : file("${path.module}/../trust-pod-identity.json")
}

resource "aws_iam_role_policy" "this" {
  name   = "drain-wait"
  role   = aws_iam_role.this.name
  policy = file("${path.module}/../../iam-policy.json")
}

resource "aws_iam_role_policy" "cross_account" {
  count = length(var.assume_role_arns) > 0 ? 1 : 0
  name  = "drain-wait-cross-account"
  role  = aws_iam_role.this.name
  policy = jsonencode(merge(local.cross_account, {
    Statement = [for s in local.cross_account.Statement : merge(s, { Resource = var.assume_role_arns })]
  }))
}

resource "aws_eks_pod_identity_association" "this" {
  count           = local.irsa ? 0 : 1
  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = var.service_account
  role_arn        = aws_iam_role.this.arn
}

output "role_arn" {
  description = "For IRSA: what the service account names."
  value       = aws_iam_role.this.arn
}
