"""Floor 1: functions of one logit or probability. Their cores and rules are in `_univariate.py`."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _univariate


def _apply(core: Callable, function: str, **arguments: ArrayLike) -> jax.Array:
    """`core`, its result rounded once to the arguments' type."""
    arrays, dtype = _checks.floating(function, **arguments)
    _checks.common_shape(function, **dict(zip(arguments, arrays, strict=True)))
    return _checks.as_type(core(*arrays), dtype)


def sigmoid(x: ArrayLike) -> jax.Array:
    r"""The logistic function, $\sigma(x) = 1 / (1 + e^{-x})$: a logit's probability.

    `grad(jax.nn.sigmoid)(20.)` is 0, because the rule there is `s * (1 - s)`; here every derivative keeps its tail.

    Args:
        x: logits, of any shape.

    Returns:
        Probabilities in [0, 1], of x's shape and type.
        Limits: 0 at -inf, 1 at +inf, slope 0 at both; NaN at NaN.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16.

    Example:
        >>> import jax, stablelogits_jax as sl
        >>> print(f"{jax.grad(sl.sigmoid)(20.):.4g}")
        2.061e-09

    References:
        Verhulst, `Recherches mathématiques sur la loi d'accroissement de la population`, 1845.
    """
    return _apply(_univariate._sigmoid, "sigmoid", x=x)


def log_sigmoid(x: ArrayLike) -> jax.Array:
    r"""The log of a logit's probability, $\log \sigma(x) = -\log(1 + e^{-x})$.

    `log(sigmoid(x))` is -inf from x = -88 in float32, and its gradient NaN.

    Args:
        x: logits, of any shape.

    Returns:
        Log-probabilities in [-inf, 0], of x's shape and type. The slope is sigmoid(-x).
        Limits: -inf with slope 1 at -inf, 0 with slope 0 at +inf; NaN at NaN.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(sl.log_sigmoid(-200.))
        -200.0

    References:
        Mächler, `Accurately Computing log(1 - exp(-|a|))`, 2012.
    """
    return _apply(_univariate._log_sigmoid, "log_sigmoid", x=x)


def softplus(x: ArrayLike) -> jax.Array:
    r"""The smooth ramp $\log(1 + e^x) = -\log \sigma(-x)$.

    `log(1 + exp(x))` overflows from x = 89 in float32 and is 0 below -17.

    Args:
        x: logits, of any shape.

    Returns:
        Values in [0, inf], of x's shape and type. The slope is sigmoid(x).
        Limits: 0 with slope 0 at -inf, +inf with slope 1 at +inf; NaN at NaN.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(sl.softplus(200.), f"{sl.softplus(-50.):.4g}")
        200.0 1.929e-22

    References:
        Dugas et al., `Incorporating Second-Order Functional Knowledge for Better Option Pricing`, 2000.
    """
    return _apply(_univariate._softplus, "softplus", x=x)


def softplus_inverse(y: ArrayLike) -> jax.Array:
    r"""The x whose softplus is y: $\log(e^y - 1)$.

    `log(exp(y) - 1)` overflows from y = 89 in float32 and is -inf below 6e-8.

    Args:
        y: values in [0, inf], of any shape.

    Returns:
        Numbers on the whole line, of y's shape and type; NaN for y < 0. The slope is 1 / (1 - exp(-y)).
        Limits: -inf with slope +inf at 0, +inf with slope 1 at +inf; NaN at NaN.

    Raises:
        TypeError: y is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.softplus_inverse(1e-20):.5g}", sl.softplus_inverse(200.))
        -46.052 200.0

    References:
        Mächler, `Accurately Computing log(1 - exp(-|a|))`, 2012.
    """
    return _apply(lambda y: -_univariate._logitexp(-y), "softplus_inverse", y=y)


def logit(x: ArrayLike) -> jax.Array:
    r"""A probability's logit, $\log(x / (1 - x))$: the inverse of the sigmoid.

    `log(x / (1 - x))` loses its digits around 1/2. What x itself cannot hold (probabilities above
    1 - 6e-8 in float32) no logit brings back: keep `log_sigmoid(logit)` instead and invert it with `logitexp`.

    Args:
        x: probabilities in [0, 1], of any shape.

    Returns:
        Logits on the whole line, of x's shape and type; NaN outside [0, 1]. The slope is 1 / (x (1 - x)).
        Limits: -inf at 0, +inf at 1, slope +inf at both; NaN at NaN.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(sl.logit(0.5), f"{sl.logit(0.75):.5f}", sl.logit(1.))
        0.0 1.09861 inf

    References:
        Berkson, `Application of the Logistic Function to Bio-Assay`, 1944.
    """
    return _apply(_univariate._logit, "logit", x=x)


def logitexp(log_p: ArrayLike) -> jax.Array:
    r"""The logit of a probability known by its log: $\log(p / (1 - p))$ with $p = e^{\log p}$.

    It inverts `log_sigmoid` where that is a normal number, up to 87 in float32; `logit(exp(log_p))` ends at 16.6 and at
    -88.

    Args:
        log_p: log-probabilities in [-inf, 0], of any shape.

    Returns:
        Logits on the whole line, of log_p's shape and type; NaN for log_p > 0. The slope is 1 / (1 - exp(log_p)).
        Limits: -inf with slope 1 at -inf, +inf with slope +inf at 0; NaN at NaN.

    Raises:
        TypeError: log_p is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.logitexp(sl.log_sigmoid(50.)):.4f}", sl.logitexp(-200.))
        50.0000 -200.0

    References:
        `logitexp` of Julia's LogExpFunctions, `qlogis(log.p = TRUE)` of R.
    """
    return _apply(_univariate._logitexp, "logitexp", log_p=log_p)


def log1mexp(x: ArrayLike) -> jax.Array:
    r"""$\log(1 - e^{-x})$ for x >= 0: the log of one minus a probability known by its log, p = exp(-x).

    `log(1 - exp(-x))` is -inf below x = 6e-8 and 0 from x = 17 in float32.

    Args:
        x: values in [0, inf], of any shape.

    Returns:
        Values in [-inf, 0], of x's shape and type; NaN for x < 0. The slope is 1 / (exp(x) - 1).
        Limits: -inf with slope +inf at 0, 0 with slope 0 at +inf; NaN at NaN.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.log1mexp(1e-10):.5f} {sl.log1mexp(50.):.4g}")
        -23.02585 -1.929e-22

    References:
        Mächler, `Accurately Computing log(1 - exp(-|a|))`, 2012.
    """
    return _apply(_univariate._log1mexp, "log1mexp", x=x)


def log_cosh(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    r"""$\log \cosh(x)$ of the predictions, or of the errors predictions - targets where targets are given.

    `log(cosh(x))` overflows from x = 89 in float32, and `logaddexp(x, -x) - log(2)` loses x^2 / 2 at small x.

    Args:
        predictions: values, of any shape.
        targets: values of a shape that broadcasts to the predictions'; None means 0.

    Returns:
        Values in [0, inf], of the predictions' shape and type. The slope is tanh(x).
        Limits: +inf at +-inf, with slopes +-1; NaN at NaN.

    Raises:
        TypeError: an argument is not float64, float32, bfloat16 or float16.
        ValueError: the targets do not broadcast to the predictions' shape.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.log_cosh(1e-4):.4g} {sl.log_cosh(10.):.4f}")
        5e-09 9.3069

    References:
        Chen et al., `Log Hyperbolic Cosine Loss Improves Variational Auto-Encoder`, 2019.
    """
    if targets is None:
        return _apply(_univariate._log_cosh, "log_cosh", predictions=predictions)
    (predictions, targets), dtype = _checks.widened("log_cosh", predictions=predictions, targets=targets)
    targets = _checks.broadcast("log_cosh", "targets", targets, predictions.shape)
    return _checks.as_type(_univariate._log_cosh(predictions - targets), dtype)


def entr(x: ArrayLike) -> jax.Array:
    r"""A probability's part of the entropy: $-x \log x$, 0 at 0, -inf below.

    Args:
        x: probabilities, or any values >= 0, of any shape.

    Returns:
        Values of x's shape and type. The slope is -(1 + log x), right to its last digits at its zero, 1 / e.
        Limits: 0 with slope +inf at 0; -inf at +inf; NaN at NaN.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(sl.entr(0.), f"{sl.entr(0.5):.4f}")
        0.0 0.3466

    References:
        `scipy.special.entr`.
    """
    return _apply(_univariate._entr, "entr", x=x)
