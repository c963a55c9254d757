"""Floor 3: preference losses of a policy beside a reference model, which it is not to leave far behind."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stablelogits_jax import _checks
from stablelogits_jax._bivariate import _difference, _times
from stablelogits_jax._core import core, define_slopes, recomputed
from stablelogits_jax._leads import _doubt, _lead, _surprise
from stablelogits_jax._preference import _of_one_shape


def _lead_of_policy(
    function: str,
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
) -> jax.Array:
    """How much more than the reference the policy prefers the chosen answer."""
    logps = _of_one_shape(
        function,
        chosen_logps=chosen_logps,
        rejected_logps=rejected_logps,
        ref_chosen_logps=ref_chosen_logps,
        ref_rejected_logps=ref_rejected_logps,
    )
    return _lead(*logps)


def dpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 0.0,
    robust: bool = False,
) -> jax.Array:
    r"""Direct preference optimization, $\ell = -\log \sigma(\beta h)$ with
    $h = (\log p_c - \log p_r) - (\log q_c - \log q_r)$, p of the policy and q of the reference model.

    h is a small difference of four large numbers: what its sums round off is computed, and added to it.

    Args:
        chosen_logps: log-probabilities of the chosen answers by the policy, sums over their tokens without
            the prompt's, of any shape.
        rejected_logps: of the rejected answers by the policy, of the same shape, as are the next two.
        ref_chosen_logps: of the chosen answers by the reference model.
        ref_rejected_logps: of the rejected answers by the reference model.
        beta: >= 0, how strongly the policy is held to the reference, this and label_smoothing a number or
            one for each pair.
        label_smoothing: s in [0, 1/2], the share of preferences that are the wrong way round: the loss becomes
            $(1 - s) \ell(h) + s \ell(-h)$.
        robust: whether it becomes $((1 - s) \ell(h) - s \ell(-h)) / (1 - 2 s)$ instead, with s < 1/2, whose mean over
            such preferences is that of $\ell$ over the right ones.

    Returns:
        Losses of the answers' shape, float32 for 16-bit log-probabilities, in [0, inf] unless robust.
        Limits: 0 at h = +inf, +inf if smoothed, -inf if that is robust; +inf at h = -inf. Answers at one infinity lead
        by 0, and so do policy and reference where an answer has one infinity by both; NaN at NaN.

    Raises:
        TypeError: the log-probabilities are not float64, float32, bfloat16 or float16, or robust is no boolean.
        ValueError: the shapes differ, an option would enlarge them, or a static option is out of range.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.dpo_loss(-10., -14., -12., -12.):.4f}")
        0.5130

    References:
        Rafailov et al., [Direct Preference Optimization](https://arxiv.org/abs/2305.18290), 2023.
        Mitchell, `A note on DPO with noisy preferences & relationship to IPO`, 2023 (label_smoothing).
        Chowdhury et al., [Provably Robust DPO](https://arxiv.org/abs/2403.00409), 2024 (robust).
    """
    name = "dpo_loss"
    _checks.flag(name, "robust", robust)
    h = _lead_of_policy(name, chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    b = _checks.option(name, "beta", beta, h.shape, h.dtype)
    half = h.dtype.type(0.5)
    most = np.nextafter(half, 0) if robust else half  # of the type, in which the option is rounded
    s = _checks.option(name, "label_smoothing", label_smoothing, h.shape, h.dtype, 0, most)
    return _surprise(h, b, jnp.zeros_like(b), _turned(s) if robust else s)


@core
def _turned(s: jax.Array) -> jax.Array:
    return -s / (1 - 2 * s)


define_slopes(_turned, lambda s: -1 / (1 - 2 * s) ** 2)  # one term: of two, beside an infinite lead one may be NaN


def ipo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Identity preference optimization, $(h - 1 / (2 \beta))^2$ with h as in `dpo_loss`.

    Unlike $-\log \sigma$ it does not send h to infinity where every preference is certain. The log-probabilities are
    means over the tokens where answers differ in length.

    Args:
        chosen_logps: log-probabilities of the chosen answers by the policy, of any shape.
        rejected_logps: of the rejected answers by the policy, of the same shape, as are the next two.
        ref_chosen_logps: of the chosen answers by the reference model.
        ref_rejected_logps: of the rejected answers by the reference model.
        beta: > 0, how strongly the policy is held to the reference, a number or one for each pair.

    Returns:
        Losses in [0, inf] of the answers' shape, float32 for 16-bit log-probabilities.
        Limits: +inf at infinite h. Answers at one infinity lead by 0, and so do policy and reference where an answer
        has one infinity by both; NaN at NaN.

    Raises:
        TypeError: the log-probabilities are not float64, float32, bfloat16 or float16.
        ValueError: the shapes differ, beta would enlarge them, or a static beta is out of range.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.ipo_loss(-10., -14., -12., -12.):.4f}")
        1.0000

    References:
        Azar et al., [A General Theoretical Paradigm to Understand Learning from Human
        Preferences](https://arxiv.org/abs/2310.12036), 2023.
    """
    name = "ipo_loss"
    h = _lead_of_policy(name, chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    b = _checks.option(name, "beta", beta, h.shape, h.dtype, positive=True)
    return _from_target(h, b)


@core
def _from_target(h: jax.Array, beta: jax.Array) -> jax.Array:
    """(h - u / 2)^2 with u = 1 / beta"""
    return (h - 0.5 / beta) ** 2


@core
def _target_slope(h: jax.Array, beta: jax.Array) -> jax.Array:
    """(h - u / 2) u^2, in beta, where the square may be flushed or infinite"""
    return _over(h - 0.5 / beta, beta, 2)


def _over(x: jax.Array, beta: jax.Array, power: int) -> jax.Array:
    for _ in range(power):
        x = _times(x, 1 / beta)
    return x


define_slopes(_from_target, lambda h, beta: 2 * (h - 0.5 / beta), _target_slope)
define_slopes(
    _target_slope,
    lambda h, beta: _over(jnp.ones_like(h), beta, 2),
    lambda h, beta: 2 * _over(0.75 / beta - h, beta, 3),
)


def kto_loss(
    logps: ArrayLike,
    ref_logps: ArrayLike,
    desirable: ArrayLike,
    *,
    kl: ArrayLike = 0.0,
    beta: ArrayLike = 0.1,
    desirable_weight: ArrayLike = 1.0,
    undesirable_weight: ArrayLike = 1.0,
) -> jax.Array:
    r"""Kahneman-Tversky optimization, $w_d \sigma(\beta (z - h))$ for a desirable answer and
    $w_u \sigma(\beta (h - z))$ for another, with $h = \log p - \log q$ and z the divergence of policy and reference.

    Written as $1 - \sigma$ the loss of a good answer is 0 where $\beta (h - z)$ is above 17, in float32, and so is its
    slope $\sigma (1 - \sigma)$.

    Args:
        logps: log-probabilities of the answers by the policy, sums over their tokens without the prompt's, of any
            shape.
        ref_logps: of the answers by the reference model, of the same shape.
        desirable: which answers are desirable, booleans of the same shape.
        kl: z >= 0, mostly one number for a batch: that of mismatched answers, max(mean(log p - log q), 0). It is
            differentiated like any option; the paper stops its gradient.
        beta: >= 0, how soon a loss or gain saturates, a number or one for each answer, as are the
            weights.
        desirable_weight: w_d >= 0.
        undesirable_weight: w_u >= 0.

    Returns:
        Losses in [0, weight] of the answers' shape, float32 for 16-bit log-probabilities.
        Limits: at infinite h 0 or the weight, with slope 0; h is 0 where both models have -inf; NaN at NaN.

    Raises:
        TypeError: the log-probabilities are not float64, float32, bfloat16 or float16, or desirable is not boolean.
        ValueError: the shapes differ, an option would enlarge them, or a static option is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> loss = sl.kto_loss(jnp.array([-10., -10.]), jnp.array([-12., -12.]), jnp.array([True, False]))
        >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")
        0.4502 0.5498

    References:
        Ethayarajh et al., [KTO](https://arxiv.org/abs/2402.01306), 2024.
    """
    name = "kto_loss"
    p, q = _of_one_shape(name, logps=logps, ref_logps=ref_logps)
    good = _checks.boolean(name, "desirable", desirable, p.shape)
    options = {"kl": kl, "beta": beta, "desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    z, b, gain, loss = (_checks.option(name, key, value, p.shape, p.dtype) for key, value in options.items())
    h = _difference(p, q) if _checks.is_number(kl, 0) else _lead(p, q, z, jnp.zeros_like(z))
    h = jnp.where(good, h, -h)
    if _checks.is_number(desirable_weight, 1) and _checks.is_number(undesirable_weight, 1):
        return _doubt(h, b, jnp.zeros_like(b))
    return _weighted_doubt(h, b, good, gain, loss)


@recomputed
def _weighted_doubt(h: jax.Array, beta: jax.Array, good: jax.Array, gain: jax.Array, loss: jax.Array) -> jax.Array:
    """An infinite lead without a weight is a large one: 0 times an infinite slope would be NaN."""
    weight, largest = jnp.where(good, gain, loss), float(jnp.finfo(h.dtype).max)
    h = jnp.where(weight == 0, jnp.clip(h, -largest, largest), h)
    return weight * _doubt(h, beta, jnp.zeros_like(beta))
