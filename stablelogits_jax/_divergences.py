"""Floor 3: divergences between two distributions, known by their logs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _mixture, _relative_entropy, _stats
from stablelogits_jax._checks import Axis, as_type, compute_type
from stablelogits_jax._core import masked, recomputed, wide
from stablelogits_jax._part_sums import sum_of


def _with_targets(
    part: Callable, function: str, log_predictions: ArrayLike, targets: ArrayLike, axis: Axis, where: ArrayLike | None
) -> jax.Array:
    (log_q,), dtype = _checks.floating(function, log_predictions=log_predictions)
    t = _checks.real(function, "targets", targets, compute_type(dtype))
    t = _checks.beside(function, "targets", t, log_q.shape)
    return _sum_over(part, function, log_q, t, 1.0, axis, where)


def _two_logs(
    function: str, log_predictions: ArrayLike, log_targets: ArrayLike
) -> tuple[jax.Array, jax.Array, jnp.dtype]:
    arguments = {"log_predictions": log_predictions, "log_targets": log_targets}
    (log_q, log_t), dtype = _checks.floating(function, **arguments)
    return log_q, _checks.beside(function, "log_targets", log_t, log_q.shape), dtype


def _sum_over(
    part: Callable,
    function: str,
    log_q: jax.Array,
    targets: jax.Array,
    certain: float,
    axis: Axis,
    where: ArrayLike | None,
    *options: jax.Array,
) -> jax.Array:
    """The sum of part(targets, log q, *options) over the classes. A masked class is certain in both distributions: its
    part is 0, and every slope of it finite."""
    shape, axes = log_q.shape, _checks.axes(function, axis, log_q.ndim)
    _checks.some_classes(function, shape, axes)
    mask = _checks.mask(function, where, shape, axes)
    if mask is not None:
        log_q, targets = masked(log_q, mask, 0), masked(jnp.broadcast_to(targets, shape), mask, certain)
        counted = jnp.any(mask, axes)  # of the other examples no option counts
        options = tuple(masked(jnp.broadcast_to(a, counted.shape), counted, 0) for a in options)

    @recomputed
    def total(log_q: jax.Array, targets: jax.Array, *options: jax.Array) -> jax.Array:
        rows = (_stats.flatten(wide(jnp.broadcast_to(x, shape)), axes) for x in (targets, log_q))
        return sum_of(part)(*rows, *(a[..., None] for a in options))

    return total(log_q, targets, *options)


def kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""The Kullback-Leibler divergence of predictions from targets, $\sum_i t_i (\log t_i - \log q_i)$.

    The usual form has a slope of NaN in a target of 0, and is NaN where a class is absent from both.

    Args:
        log_predictions: log-probabilities log q, of any shape.
        targets: probabilities t, of a shape that broadcasts to the predictions'; any type; they need not sum to 1.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the predictions' shape, or examples, of its shape without the axes.

    Returns:
        Divergences, in nats, of the predictions' shape without the axes, float32 for 16-bit predictions. They are in
        [0, inf] where both sum to 1, to the rounding of the terms, which have both signs;
        those of `kl_from_logits` have one.
        Limits: a class with target 0 adds 0 with slope 0 in its prediction; +inf with slope -t where a class with
        t > 0 is absent (-inf); NaN at NaN and for a negative target. The slope in a target of 0 beside a present class
        is -inf: for targets that are trained take `kl_divergence_with_log_targets`, or logits and `kl_from_logits`.

    Raises:
        TypeError: the predictions are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the targets or where would enlarge the predictions, or axis is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> log_q = jnp.array([-0.6931472, -0.6931472, -jnp.inf])
        >>> print(f"{sl.kl_divergence(log_q, jnp.array([1., 0., 0.])):.4f}")
        0.6931

    References:
        Kullback, Leibler, `On Information and Sufficiency`, 1951.
    """
    return _with_targets(_relative_entropy._kl, "kl_divergence", log_predictions, targets, axis, where)


def kl_divergence_with_log_targets(
    log_predictions: ArrayLike, log_targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""The Kullback-Leibler divergence of targets known by their logs, $\sum_i t_i (\log t_i - \log q_i)$.

    The usual form is NaN for a target of log -inf, whose part is 0.

    Args:
        log_predictions: log-probabilities log q, of any shape.
        log_targets: log-probabilities log t, of a shape that broadcasts to the predictions'.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the predictions' shape, or examples, of its shape without the axes.

    Returns:
        Divergences, in nats, of the predictions' shape without the axes, float32 for 16-bit arguments. They are in
        [0, inf] where both sum to 1, to the rounding of the terms, which have both signs;
        those of `kl_from_logits` have one.
        Limits: a class of log-target -inf adds 0 with slopes 0; +inf with slope -t in the prediction where a class with
        t > 0 is absent (-inf); NaN at NaN.

    Raises:
        TypeError: the arguments are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the targets or where would enlarge the predictions, or axis is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> log_q = jnp.array([-0.6931472, -0.6931472, -jnp.inf])
        >>> print(f"{sl.kl_divergence_with_log_targets(log_q, jnp.array([0., -jnp.inf, -jnp.inf])):.4f}")
        0.6931

    References:
        Kullback, Leibler, `On Information and Sufficiency`, 1951.
    """
    name = "kl_divergence_with_log_targets"
    log_q, log_t, _ = _two_logs(name, log_predictions, log_targets)
    return _sum_over(_relative_entropy._kl_of_logs, name, log_q, log_t, 0.0, axis, where)


def generalized_kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""The Kullback-Leibler divergence of measures that need not sum to 1, $\sum_i t_i \log(t_i / q_i) + q_i - t_i$.

    The sum of terms of both signs rounds to +-6e-8 where q and t are close; here it is a sum of terms that are not
    negative, $t (e^d - 1 - d)$ with $d = \log(q / t)$. `convex_kl_divergence` is another name of this function.

    Args:
        log_predictions: logs of the measure q, of any shape.
        targets: the measure t >= 0, of a shape that broadcasts to the predictions'; any type.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the predictions' shape, or examples, of its shape without the axes.

    Returns:
        Divergences in [0, inf], in nats, of the predictions' shape without the axes, float32 for 16-bit predictions.
        The slope is q - t in the log-predictions.
        Limits: a class with target 0 adds q; +inf with slope -t where a class with t > 0 is absent (-inf); NaN at NaN
        and for a negative target. The slope in a target of 0 beside a present class is -inf, as in `kl_divergence`.

    Raises:
        TypeError: the predictions are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the targets or where would enlarge the predictions, or axis is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.generalized_kl_divergence(jnp.array([1e-4, 0.]), jnp.array([1., 1.])):.4g}")
        5e-09

    References:
        Csiszár, `I-divergence Geometry of Probability Distributions and Minimization Problems`, 1975.
    """
    name = "generalized_kl_divergence"
    return _with_targets(_relative_entropy._generalized_kl, name, log_predictions, targets, axis, where)


convex_kl_divergence = generalized_kl_divergence


def js_divergence(
    log_predictions: ArrayLike,
    log_targets: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    beta: ArrayLike = 0.5,
) -> jax.Array:
    r"""The Jensen-Shannon divergence, $\beta\, \mathrm{KL}(t \| m) + (1 - \beta)\, \mathrm{KL}(q \| m)$ with
    $m = \beta t + (1 - \beta) q$.

    The logarithm of a rounded m is as wrong as the divergence is small; here each class adds two terms that are not
    negative, of logarithms of ratios.

    Args:
        log_predictions: log-probabilities log q, of the student in distillation, of any shape; not logits, which go
            through `log_softmax` first.
        log_targets: log-probabilities log t, of the teacher, of a shape that broadcasts to the predictions'.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the predictions' shape, or examples, of its shape without the axes.
        beta: the weight of the targets in [0, 1], a number or one for each example, as in generalized knowledge
            distillation: for small beta the divergence is beta KL(t || q), for beta near 1 it is (1 - beta) KL(q || t);
            0 at either end. A trainer that means KL(t || q) by 0 and KL(q || t) by 1 takes
            `kl_divergence_with_log_targets` there.

    Returns:
        Divergences, in nats, of the predictions' shape without the axes, float32 for 16-bit arguments; in [0, log 2]
        for beta = 1/2 and distributions that sum to 1.
        Limits: a class absent (-inf) from both adds 0 with slopes 0, from one a finite number; NaN at NaN.

    Raises:
        TypeError: the arguments are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the targets, where or beta would enlarge the predictions; axis or a static beta is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> log_q, log_t = jnp.array([[0., -jnp.inf], [0., -jnp.inf]]), jnp.array([[-jnp.inf, 0.], [-1e-5, -11.512925]])
        >>> print(" ".join(f"{js:.4g}" for js in sl.js_divergence(log_q, log_t)))
        0.6931 3.466e-06

    References:
        Lin, `Divergence Measures Based on the Shannon Entropy`, 1991.
        Agarwal et al., [On-Policy Distillation of Language Models](https://arxiv.org/abs/2306.13649), 2024 (beta).
    """
    name = "js_divergence"
    log_q, log_t, dtype = _two_logs(name, log_predictions, log_targets)
    axes = _checks.axes(name, axis, log_q.ndim)
    batch = tuple(n for a, n in enumerate(log_q.shape) if a not in axes)
    weight = _checks.option(name, "beta", beta, batch, compute_type(dtype), 0, 1)
    return _sum_over(_mixture._js, name, log_q, log_t, 0.0, axis, where, weight)


def bernoulli_kl_from_logits(logits_p: ArrayLike, logits_q: ArrayLike) -> jax.Array:
    r"""The Kullback-Leibler divergence between Bernoulli distributions,
    $p \log(p / q) + (1 - p) \log((1 - p) / (1 - q))$ with $p = \sigma(x)$ and $q = \sigma(y)$.

    The difference of two cross entropies rounds to +-6e-8 where p and q are close; here it is a sum of two terms that
    are not negative.

    Args:
        logits_p: logits x, of any shape.
        logits_q: logits y, of the same shape.

    Returns:
        Divergences in [0, inf], in nats, of the logits' shape and their common type. The slope is sigmoid(y) -
        sigmoid(x) in y.
        Limits: softplus(-y) at x = +inf, softplus(y) at -inf, and so 0 for equal infinities; +inf for an infinite y
        beside another x; NaN at NaN.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16.
        ValueError: the shapes differ.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> kl = sl.bernoulli_kl_from_logits(jnp.array([2., 100.]), jnp.array([2.001, -100.]))
        >>> print(f"{kl[0]:.4g} {kl[1]:.4g}")
        5.248e-08 100

    References:
        Kullback, Leibler, `On Information and Sufficiency`, 1951.
    """
    (x, y), dtype = _checks.floating("bernoulli_kl_from_logits", logits_p=logits_p, logits_q=logits_q)
    _checks.require_shape("bernoulli_kl_from_logits", "logits_q", y.shape, x.shape)
    return as_type(recomputed(_relative_entropy._bernoulli_kl)(x, y), dtype)
