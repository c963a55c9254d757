"""Floor 3: losses on two answers to a question, one of which is preferred, without a reference model.

An answer is known by a reward or by its log-probability: a sum over its tokens, or their mean.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks
from stablelogits_jax._bivariate import _difference, _log_ratio, _times
from stablelogits_jax._closed import _complement, _exp, _expm1
from stablelogits_jax._core import core, define_slopes
from stablelogits_jax._leads import _lead, _surprise
from stablelogits_jax._univariate import _one_plus_bose, _softplus


def _of_one_shape(function: str, **arguments: ArrayLike) -> list[jax.Array]:
    """The arguments in the type that is computed in, all of the first one's shape."""
    arrays, _ = _checks.widened(function, **arguments)
    for name, array in zip(arguments, arrays, strict=True):
        _checks.require_shape(function, name, array.shape, arrays[0].shape)
    return arrays


def bradley_terry_loss(chosen: ArrayLike, rejected: ArrayLike, *, margin: ArrayLike = 0.0) -> jax.Array:
    r"""The surprise that of two answers with rewards the one was chosen, $-\log \sigma(r_c - r_r - m)$.

    The logarithm of a rounded sigmoid is 0 where the lead is above 17, and -inf where it is below -88.

    Args:
        chosen: rewards of the chosen answers, of any shape.
        rejected: rewards of the rejected answers, of the same shape.
        margin: m >= 0, by which the chosen answer should lead, of a shape that broadcasts to the rewards'.

    Returns:
        Losses in [0, inf] of the rewards' shape, float32 for 16-bit rewards.
        Limits: 0 where the lead is +inf, +inf with slope -1 where it is -inf; equal infinities lead by 0; NaN at NaN.

    Raises:
        TypeError: the rewards are not float64, float32, bfloat16 or float16.
        ValueError: the shapes differ, margin would enlarge them, or a static margin is out of range.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.bradley_terry_loss(30., 0.):.4g}")
        9.358e-14

    References:
        Bradley, Terry, `Rank Analysis of Incomplete Block Designs`, 1952.
        Touvron et al., [Llama 2](https://arxiv.org/abs/2307.09288), 2023 (margin).
    """
    name = "bradley_terry_loss"
    c, r = _of_one_shape(name, chosen=chosen, rejected=rejected)
    m = _checks.option(name, "margin", margin, c.shape, c.dtype)
    lead = _difference(c, r) if _checks.is_number(margin, 0) else _lead(c, r, m, jnp.zeros_like(m))
    zeros = jnp.zeros_like(c)
    return _surprise(lead, jnp.ones_like(c), zeros, zeros)


def simpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 2.0,
    gamma: ArrayLike = 1.0,
    label_smoothing: ArrayLike = 0.0,
) -> jax.Array:
    r"""Simple preference optimization, $\ell = -\log \sigma(\beta (\log p_c - \log p_r) - \gamma)$.

    With gamma = 0 and sums in the place of means it is the preference part of CPO. The paper has no label smoothing;
    trainers of CPO have it, for both losses.

    Args:
        chosen_logps: mean log-probabilities of the chosen answers' tokens, of any shape.
        rejected_logps: of the rejected answers' tokens, of the same shape.
        beta: >= 0, the scale of a log-probability as a reward; this and the other options are one number, or one for
            each pair.
        gamma: >= 0, the margin by which the chosen answer's reward should lead.
        label_smoothing: s in [0, 1/2], the share of preferences that are the wrong way round: with z the argument of
            the sigmoid, the loss becomes $(1 - s) \ell(z) + s \ell(-z)$.

    Returns:
        Losses in [0, inf] of the answers' shape, float32 for 16-bit log-probabilities.
        Limits: 0 where the rejected answer alone has -inf, +inf where smoothed; +inf where the chosen one alone has;
        where both have, neither leads; NaN at NaN.

    Raises:
        TypeError: the log-probabilities are not float64, float32, bfloat16 or float16.
        ValueError: the shapes differ, an option would enlarge them, or a static option is out of range.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.simpo_loss(-1., -2.):.4f}")
        0.3133

    References:
        Meng et al., [SimPO](https://arxiv.org/abs/2405.14734), 2024.
        Xu et al., [Contrastive Preference Optimization](https://arxiv.org/abs/2401.08417), 2024.
    """
    name = "simpo_loss"
    c, r = _of_one_shape(name, chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    b = _checks.option(name, "beta", beta, c.shape, c.dtype)
    margin = _checks.option(name, "gamma", gamma, c.shape, c.dtype)
    s = _checks.option(name, "label_smoothing", label_smoothing, c.shape, c.dtype, 0, 0.5)
    return _surprise(_difference(c, r), b, margin, s)


# Odds ---------------------------------------------------------------------------------------------------------------


def _missed(log_p: jax.Array) -> jax.Array:
    """1 - p"""
    return jnp.where(log_p > 0, jnp.nan, jnp.abs(_expm1(jnp.minimum(log_p, 0))))


def _cross(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """p_a (1 - p_b), p_b (1 - p_a) and p_b, all over the larger p: the odds ratio is that of the first two, which are
    not both flushed."""
    top = jnp.maximum(a, b)
    p_a, p_b = (_exp(_difference.closed(x, top)) for x in (a, b))
    return p_a * _missed(b), p_b * _missed(a), p_b


@core
def _odds_surprise(c: jax.Array, r: jax.Array, beta: jax.Array) -> jax.Array:
    """beta softplus(-d) with d = logitexp(c) - logitexp(r) = (c - r) + log((1 - p_r) / (1 - p_c)): the two terms have
    one sign, the two log-odds may be large and cancel."""
    d = _difference.closed(c, r) + _log_ratio.closed(_missed(r), _missed(c))
    return _times(beta, _softplus(-d))


@core
def _pull_up(c: jax.Array, r: jax.Array, beta: jax.Array) -> jax.Array:
    """beta sigmoid(-d) / (1 - p_c), minus the slope in c: sigmoid(-d) may be flushed where this is not, so it is
    beta p_r / (p_c (1 - p_r) + p_r (1 - p_c))."""
    ours, theirs, p_r = _cross(c, r)
    return _times(beta, p_r / (ours + theirs))


@core
def _push_down(c: jax.Array, r: jax.Array, beta: jax.Array) -> jax.Array:
    """beta sigmoid(-d) / (1 - p_r), the slope in r. XLA would make one quotient of two, over a product that may be
    flushed. Equal odds are so also where 1 - p is 0 in both."""
    ours, theirs, _ = _cross(c, r)
    other = jnp.where(ours == theirs, 0.5, theirs / (ours + theirs))
    return _times(beta, other * _one_plus_bose(-r))


def _mixed(c: jax.Array, r: jax.Array, beta: jax.Array) -> jax.Array:
    """beta sigmoid(d) sigmoid(-d) / ((1 - p_c) (1 - p_r)), minus the slope in both"""
    return _times(_pull_up(c, r, beta), _pull_up(r, c, jnp.ones_like(beta)))


def _share(c: jax.Array, r: jax.Array, beta: jax.Array) -> jax.Array:
    """sigmoid(d), and 0 for two answers that are certain, where what it is beside is infinite"""
    return _times(_complement(r), _pull_up(r, c, jnp.ones_like(beta)))


def _for_one(f: Callable) -> Callable:
    return lambda c, r, beta: f(c, r, jnp.ones_like(beta))


define_slopes(
    _odds_surprise,
    lambda c, r, beta: -_pull_up(c, r, beta),
    _push_down,
    _for_one(_odds_surprise),
)
define_slopes(  # bell(d) / (1 - p_c)^2 - sigmoid(-d) p_c / (1 - p_c)^2 would cancel where p_c is near 1
    _pull_up,
    lambda c, r, beta: _times(_pull_up(c, r, beta), jnp.exp(c) * _for_one(_pull_up)(c, r, beta) - _share(c, r, beta)),
    _mixed,
    _for_one(_pull_up),
)
define_slopes(
    _push_down,
    lambda c, r, beta: -_mixed(c, r, beta),
    lambda c, r, beta: _times(_push_down(c, r, beta), (_share(c, r, beta) + jnp.exp(r)) * _one_plus_bose(-r)),
    _for_one(_push_down),
)


def orpo_loss(chosen_logps: ArrayLike, rejected_logps: ArrayLike, *, beta: ArrayLike = 0.1) -> jax.Array:
    r"""Odds ratio preference optimization, $-\log p_c - \beta \log \sigma(\log o_c - \log o_r)$ with $o = p / (1 - p)$.

    $\log(1 - p)$ of a p that rounds to 1 is -inf, and its slope NaN; here 1 - p keeps its digits.

    Args:
        chosen_logps: mean log-probabilities of the chosen answers' tokens, <= 0, of any shape.
        rejected_logps: of the rejected answers' tokens, of the same shape.
        beta: >= 0, the weight of the odds ratio, a number or one for each pair.

    Returns:
        Losses in [0, inf] of the answers' shape, float32 for 16-bit log-probabilities.
        Limits: +inf where the chosen answer has -inf or the rejected one 0; $-\log p_c$ where the rejected one has
        -inf; where both are at -inf or both at 0 their odds are equal; NaN above 0 and at NaN.

    Raises:
        TypeError: the log-probabilities are not float64, float32, bfloat16 or float16.
        ValueError: the shapes differ, beta would enlarge them, or a static beta is out of range.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.orpo_loss(-1., -2.):.4f}")
        1.0238

    References:
        Hong et al., [ORPO](https://arxiv.org/abs/2403.07691), 2024.
    """
    name = "orpo_loss"
    c, r = _of_one_shape(name, chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    b = _checks.option(name, "beta", beta, c.shape, c.dtype)
    return _odds_surprise(c, r, b) - c
