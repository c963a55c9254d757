"""Stable logits for JAX: values and derivatives of every order that stay right at extreme inputs."""

from stablelogits_jax._binary import (
    sigmoid_binary_cross_entropy,
)
from stablelogits_jax._categorical import (
    safe_softmax_cross_entropy,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    z_loss,
)
from stablelogits_jax._contrastive import (
    info_nce_loss,
    sigmoid_contrastive_loss,
)
from stablelogits_jax._distillation import (
    distillation_loss,
    logit_matching_loss,
)
from stablelogits_jax._divergences import (
    bernoulli_kl_from_logits,
    convex_kl_divergence,
    generalized_kl_divergence,
    js_divergence,
    kl_divergence,
    kl_divergence_with_log_targets,
)
from stablelogits_jax._elementary import (
    entr,
    log1mexp,
    log_cosh,
    log_sigmoid,
    logit,
    logitexp,
    sigmoid,
    softplus,
    softplus_inverse,
)
from stablelogits_jax._focal import (
    sigmoid_focal_loss,
)
from stablelogits_jax._information import (
    entropy_from_logits,
    kl_from_logits,
    log_prob_from_logits,
)
from stablelogits_jax._large_vocab import (
    linear_softmax_cross_entropy,
    linear_softmax_cross_entropy_sum,
    linear_token_statistics,
)
from stablelogits_jax._masked_mean import masked_mean
from stablelogits_jax._modulated import (
    poly_loss_cross_entropy,
    softmax_focal_loss,
    softmax_focal_loss_with_integer_labels,
)
from stablelogits_jax._normalizers import (
    log_softmax,
    logmeanexp,
    logsumexp,
    softmax,
)
from stablelogits_jax._ordinal import ordinal_cross_entropy
from stablelogits_jax._pairwise import (
    log_sigmoid_diff,
    logaddexp,
    logsubexp,
    rel_entr,
    xlog1py,
    xlogy,
)
from stablelogits_jax._preference import (
    bradley_terry_loss,
    orpo_loss,
    simpo_loss,
)
from stablelogits_jax._referenced import (
    dpo_loss,
    ipo_loss,
    kto_loss,
)

__all__ = [
    "bernoulli_kl_from_logits",
    "bradley_terry_loss",
    "convex_kl_divergence",
    "distillation_loss",
    "dpo_loss",
    "entr",
    "entropy_from_logits",
    "generalized_kl_divergence",
    "info_nce_loss",
    "ipo_loss",
    "js_divergence",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "kl_from_logits",
    "kto_loss",
    "linear_softmax_cross_entropy",
    "linear_softmax_cross_entropy_sum",
    "linear_token_statistics",
    "log1mexp",
    "log_cosh",
    "log_prob_from_logits",
    "log_sigmoid",
    "log_sigmoid_diff",
    "log_softmax",
    "logaddexp",
    "logit",
    "logit_matching_loss",
    "logitexp",
    "logmeanexp",
    "logsubexp",
    "logsumexp",
    "masked_mean",
    "ordinal_cross_entropy",
    "orpo_loss",
    "poly_loss_cross_entropy",
    "rel_entr",
    "safe_softmax_cross_entropy",
    "sigmoid",
    "sigmoid_binary_cross_entropy",
    "sigmoid_contrastive_loss",
    "sigmoid_focal_loss",
    "simpo_loss",
    "smooth_labels",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_focal_loss",
    "softmax_focal_loss_with_integer_labels",
    "softplus",
    "softplus_inverse",
    "xlog1py",
    "xlogy",
    "z_loss",
]
