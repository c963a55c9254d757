"""Floor 3: the focal loss on one logit, of two classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from stablelogits_jax._binary import _cross_entropy, _kept, _logits_and_labels, _one, _option
from stablelogits_jax._bivariate import _difference, _times
from stablelogits_jax._checks import as_type
from stablelogits_jax._core import core, define_slopes, masked, recomputed
from stablelogits_jax._double_float import fast_two_sum, opaque
from stablelogits_jax._univariate import _log_sigmoid, _sigmoid, _tanh


def sigmoid_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    alpha: ArrayLike | None = None,
    gamma: ArrayLike = 2.0,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross entropy scaled down where the prediction is good, $\alpha_y (1 - p_y)^\gamma$ times it.

    With $p_y = y \sigma(x) + (1 - y) \sigma(-x)$ and $\alpha_y = y \alpha + (1 - y) (1 - \alpha)$. The
    power of a rounded 1 - p loses the tail; here it is taken of a log-probability.

    Args:
        logits: of any shape.
        labels: probabilities of the positive class, of a shape that broadcasts to the logits'; any type.
        alpha: the weight of the positive class in [0, 1], 1 - alpha that of the negative, of a shape
            that broadcasts to the logits'; None means no weights.
        gamma: the focusing exponent, >= 0, of such a shape too.
        where: examples to keep, of a shape that broadcasts to the logits'; the others get loss 0 and slope 0.

    Returns:
        Losses in [0, inf] of the logits' shape, float32 for 16-bit logits; at gamma = 0 the cross entropy.
        Limits: at +-inf 0 where the label matches, +inf where it does not, with the slopes' limits; NaN at NaN.
        Derivatives in a label of 0 or 1 that matches are 0 where one of their factors, (1 - p)^gamma and the cross
        entropy, is flushed, as from |logit| = 87 in float32, also where a 1 / (1 - p) in a second one would make up for
        it.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: labels, alpha, gamma or where would enlarge the logits, or a static option is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> loss = sl.sigmoid_focal_loss(jnp.array([20., -20.]), jnp.array([1, 1]))
        >>> print(f"{loss[0]:.4g} {loss[1]:.4g}")
        8.757e-27 20

    References:
        Lin et al., [Focal Loss for Dense Object Detection](https://arxiv.org/abs/1708.02002), 2017.
    """
    name = "sigmoid_focal_loss"
    x, y = _logits_and_labels(name, logits, labels)
    x, y, mask = _kept(name, x, y, where)
    x = as_type(x, y.dtype)
    gamma = _option(name, "gamma", gamma, x, mask)
    alpha = None if alpha is None else _option(name, "alpha", alpha, x, mask, 1)
    loss = _weighted_focal(x, y, gamma, alpha)
    return loss if mask is None else masked(loss, mask, 0)


@recomputed
def _weighted_focal(x: jax.Array, y: jax.Array, gamma: jax.Array, alpha: jax.Array | None) -> jax.Array:
    infinite = jnp.isinf(x)
    loss = _focal(0)(jnp.where(infinite, 0, x), y, gamma, _one(x) if alpha is None else _balance(y, alpha))
    limit = _at_infinity(0, 0, 0)
    at = jnp.where(infinite, x, 1), jnp.where(infinite, y, 0.5), gamma
    return jnp.where(infinite, 2 * limit(*at, 0.5 * _one(x)) if alpha is None else limit(*at, alpha), loss)


@core
def _balance(y: jax.Array, alpha: jax.Array) -> jax.Array:
    return y * alpha + (1 - y) * (1 - alpha)


define_slopes(_balance, lambda y, alpha: 2 * alpha - 1, lambda y, alpha: 2 * y - 1)


# At an infinite logit -----------------------------------------------------------------------------------------------


@cache
def _at_infinity(in_label: int, in_gamma: int, in_alpha: int, finite: bool = False) -> Any:
    """Of the loss alpha_y n^(gamma + 1) |x|, with n the label's share of the class that the logit speaks against, the
    slope of these orders: |x| times one number, where a product rule would add infinities of both signs. A slope in x,
    without |x|, is finite. A class without a share is absent: it has no loss and no slope."""

    @core
    def f(x: jax.Array, y: jax.Array, gamma: jax.Array, alpha: jax.Array) -> jax.Array:
        sign, n, p = jnp.sign(x), jnp.where(x > 0, 1 - y, y), gamma + 1
        weight = (_balance.closed(y, alpha), 2 * y - 1, 0 * y)[min(in_alpha, 2)]
        weight_in_label = (2 * alpha - 1, 2, 0)[min(in_alpha, 2)]
        slope = _times.closed(weight, _of_power(n, p, in_label, in_gamma))
        if in_label:
            slope -= sign * in_label * _times.closed(weight_in_label * n, _of_power(n, p, in_label - 1, in_gamma))
        slope *= (-sign) ** in_label
        if finite:
            return sign * _times.closed(slope, jnp.exp(_times.closed(p - in_label, jnp.log(n))))
        return jnp.where(n == 0, 0, _times.closed(slope, jnp.abs(x)))

    define_slopes(
        f,
        (lambda x, *_: jnp.zeros_like(x)) if finite else _at_infinity(in_label, in_gamma, in_alpha, True),
        lambda *of: _at_infinity(in_label + 1, in_gamma, in_alpha, finite)(*of),
        lambda *of: _at_infinity(in_label, in_gamma + 1, in_alpha, finite)(*of),
        lambda *of: _at_infinity(in_label, in_gamma, in_alpha + 1, finite)(*of),
    )
    return f


def _of_power(n: jax.Array, p: jax.Array, in_share: int, in_power: int) -> jax.Array:
    """The slope of n^p of these orders, over n^(p - in_share), which may underflow: c_0 + c_1 log n + ..., of which one
    order more in n, at q = p - in_share, makes (q c_0 + c_1) + (q c_1 + 2 c_2) log n + ..."""
    c = [jnp.zeros_like(p)] * in_power + [jnp.ones_like(p)]
    for i in range(in_share):
        c = [(p - i) * a + j * b for j, (a, b) in enumerate(zip(c, [*c[1:], jnp.zeros_like(p)], strict=True), 1)]
    total, logs = jnp.zeros_like(n), jnp.ones_like(n)
    for a in c:
        total += _times.closed(a, logs)
        logs = logs * jnp.log(n)
    return total


# At a finite one ----------------------------------------------------------------------------------------------------


@jax.custom_jvp
@jax.jit
def _log_miss(x: jax.Array, y: jax.Array) -> jax.Array:
    """log(1 - p_y) = log((1 - y) sigmoid(x) + y sigmoid(-x)).

    With e = exp(-|x|), and far and near the label's shares of the class the logit speaks for and of the other, it is
    log(near + far e) - log1p(e), a sum of terms >= 0 under the logarithm; at near = 0 it is -|x| - log1p(e). Of a sum
    near 1, 1 - far (1 - e), it has what that rounds off.
    """
    a = jnp.abs(x)
    e = jnp.exp(-a)
    near, far = jnp.where(x >= 0, 1 - y, y), jnp.where(x >= 0, y, 1 - y)
    of_one = fast_two_sum(opaque(1, x.dtype), -far * (1 - e))
    log_sum = jnp.log(jnp.where(far < 0.5, of_one.head, near + far * e))
    log_sum += jnp.where(far < 0.5, of_one.tail / jnp.maximum(of_one.head, 0.5), 0)
    return jnp.where(near == 0, -a, log_sum) - jnp.log1p(e)


@cache
def _power(logs: int) -> Any:
    @jax.custom_jvp
    @jax.jit
    def f(x: jax.Array, y: jax.Array, gamma: jax.Array, scale: jax.Array, times: jax.Array) -> jax.Array:
        """scale times m log(1 - p_y)^logs with m = (1 - p_y)^gamma, of which each slope in gamma has one log more:
        apart from m, its own slope in y would be infinite beside a 0. A factor of 0, such as gamma (gamma - 1) of a
        second slope, is 0 at any m; of two, each keeps the other's slope from an infinite m."""
        log_miss = _log_miss(x, y)
        return _with_logs(_scaled(scale, times, _times(gamma, log_miss)), log_miss, logs)

    define_slopes(
        f,
        lambda x, y, gamma, scale, times: (
            (1 - 2 * y) * _lowered(_power_pull, logs, x, y, gamma, scale, times * gamma, times)
        ),
        lambda x, y, gamma, scale, times: (
            -_tanh(x / 2) * _lowered(_power, logs, x, y, gamma - 1, scale, times * gamma, times)
        ),
        lambda *of: _power(logs + 1)(*of),
        lambda x, y, gamma, scale, times: f(x, y, gamma, _one(x), times),
        lambda x, y, gamma, scale, times: f(x, y, gamma, scale, _one(x)),
    )
    return f


@cache
def _power_pull(logs: int) -> Any:
    @jax.custom_jvp
    @jax.jit
    def f(x: jax.Array, y: jax.Array, gamma: jax.Array, scale: jax.Array, times: jax.Array) -> jax.Array:
        """scale times m pull log(1 - p_y)^logs, in one exponential: with a pull of its own the slope in y would be 0
        times infinity. The pull is the size of the slope of log(1 - p_y) in x, sigmoid(x) sigmoid(-x) / (1 - p_y), in
        which equal infinities cancel."""
        plus, minus = _log_sigmoid(x), _log_sigmoid(-x)
        log_miss = _log_miss(x, y)
        log_pull = jnp.maximum(plus, minus) + _difference(jnp.minimum(plus, minus), log_miss)
        return _with_logs(_scaled(scale, times, _times(gamma, log_miss) + log_pull), log_miss, logs)

    def in_logits(x: jax.Array, y: jax.Array, gamma: jax.Array, scale: jax.Array, times: jax.Array) -> jax.Array:
        """Of sigmoid(x) sigmoid(-x) (1 - p_y)^(gamma - 1) log(1 - p_y)^logs, by the product rule."""
        pull = (1 - 2 * y) * _pull(x, y)
        slope = f(x, y, gamma, scale, times) * ((gamma - 1) * pull - _tanh(x / 2))
        return slope + logs * pull * _power_pull(logs - 1)(x, y, gamma, scale, times) if logs else slope

    define_slopes(
        f,
        in_logits,
        lambda x, y, gamma, scale, times: (
            -_tanh(x / 2) * _lowered(_power_pull, logs, x, y, gamma - 1, scale, times * (gamma - 1), times)
        ),
        lambda *of: _power_pull(logs + 1)(*of),
        lambda x, y, gamma, scale, times: f(x, y, gamma, _one(x), times),
        lambda x, y, gamma, scale, times: f(x, y, gamma, scale, _one(x)),
    )
    return f


def _scaled(scale: jax.Array, times: jax.Array, log: jax.Array) -> jax.Array:
    """scale times exp(log), which may overflow where the scale is small, and so is then made of two factors"""
    most = math.log(float(jnp.finfo(log.dtype).max)) - 1
    beyond = log > most
    factor, rest = jnp.where(beyond, math.exp(most), jnp.ones_like(log)), jnp.where(beyond, log - most, log)
    return _times(times, _times(_times(scale, factor), jnp.exp(rest)))


def _with_logs(m: jax.Array, log_miss: jax.Array, logs: int) -> jax.Array:
    for _ in range(logs):
        m = _times(m, log_miss)
    return m


def _lowered(
    f: Callable, logs: int, x: Any, y: Any, gamma: Any, scale: Any, times: Any, times_of_logs: Any
) -> jax.Array:
    """The slope of (1 - p_y)^gamma log(1 - p_y)^logs in 1 - p_y, by the product rule; the power is lowered already."""
    slope = f(logs)(x, y, gamma, scale, times)
    return slope + logs * f(logs - 1)(x, y, gamma, scale, times_of_logs) if logs else slope


def _pull(x: jax.Array, y: jax.Array) -> jax.Array:
    return _power_pull(0)(x, y, jnp.zeros_like(x), _one(x), _one(x))


define_slopes(
    _log_miss,
    lambda x, y: (1 - 2 * y) * _pull(x, y),
    lambda x, y: -_tanh(x / 2) * jnp.exp(-_log_miss(x, y)),
)


@cache
def _focal(logs: int) -> Any:
    @jax.custom_jvp
    @jax.jit
    def f(x: jax.Array, y: jax.Array, gamma: jax.Array, scale: jax.Array) -> jax.Array:
        """scale m log(1 - p_y)^logs c, with c the cross entropy; each slope in gamma has one log more."""
        return _times(_power(logs)(x, y, gamma, scale, _one(x)), _cross_entropy(x, y, _one(x), 0 * _one(x)))

    @partial(f.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        """The product rule. What decays is multiplied to c first, so that an infinite c meets a 0 of the same logit."""
        moved = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]

        @recomputed
        def tangent(primals: tuple, *dots: jax.Array) -> jax.Array:
            x, y, gamma, scale = primals
            one, largest = _one(x), float(jnp.finfo(x.dtype).max)
            c, m = _cross_entropy(x, y, one, 0 * one), _power(logs)(x, y, gamma, scale, one)
            total = jnp.zeros_like(x)
            for i, dot in zip(moved, dots, strict=True):
                if i == 0:
                    c_x = (1 - y) * _sigmoid(x) - y * _sigmoid(-x)
                    pull = _lowered(_power_pull, logs, x, y, gamma, scale, gamma, one)
                    total += dot * (m * c_x + (1 - 2 * y) * _times(pull, c))
                elif i == 1:
                    power = _lowered(_power, logs, x, y, gamma - 1, _times(scale, c), gamma, one)
                    slope = _times(m, -x) - _tanh(x / 2) * power
                    total += dot * jnp.where(jnp.isinf(x), slope, jnp.clip(slope, -largest, largest))
                elif i == 2:
                    total += dot * _focal(logs + 1)(x, y, gamma, scale)
                else:
                    total += dot * f(x, y, gamma, one)
            return total

        return f(*primals), tangent(primals, *(tangents[i] for i in moved))

    return f
