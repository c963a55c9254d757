"""Stable logits for JAX: values and derivatives of every order that stay right at extreme inputs."""

from stablelogits_jax._binary import (
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
)
from stablelogits_jax._categorical import (
    safe_softmax_cross_entropy,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    z_loss,
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
from stablelogits_jax._information import (
    entropy_from_logits,
    kl_from_logits,
    log_prob_from_logits,
)
from stablelogits_jax._normalizers import (
    log_softmax,
    logmeanexp,
    logsumexp,
    masked_mean,
    softmax,
)
from stablelogits_jax._pairwise import (
    log_sigmoid_diff,
    logaddexp,
    logsubexp,
    rel_entr,
    xlog1py,
    xlogy,
)

__all__ = [
    "entr",
    "entropy_from_logits",
    "kl_from_logits",
    "log1mexp",
    "log_cosh",
    "log_prob_from_logits",
    "log_sigmoid",
    "log_sigmoid_diff",
    "log_softmax",
    "logaddexp",
    "logit",
    "logitexp",
    "logmeanexp",
    "logsubexp",
    "logsumexp",
    "masked_mean",
    "rel_entr",
    "safe_softmax_cross_entropy",
    "sigmoid",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softplus",
    "softplus_inverse",
    "xlog1py",
    "xlogy",
    "z_loss",
]
