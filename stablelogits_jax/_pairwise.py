"""Floor 1: functions of two logits or probabilities. Their cores and rules are in `_bivariate.py`."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from stablelogits_jax import _bivariate
from stablelogits_jax._elementary import _apply


def logaddexp(a: ArrayLike, b: ArrayLike) -> jax.Array:
    r"""$\log(e^a + e^b)$: the sum of two numbers known by their logs.

    Args:
        a: logs, of a shape that broadcasts with b's.
        b: logs.

    Returns:
        Logs, of the broadcast shape and common type. The slopes are sigmoid(a - b) and sigmoid(b - a).
        Limits: the larger where the other is -inf; -inf with slopes 0 where both are; +inf with slopes 1/2 where both
        are +inf; NaN where either is NaN.

    Raises:
        TypeError: the arguments' common type is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.logaddexp(0., -30.):.4g}", sl.logaddexp(1000., -1000.))
        9.358e-14 1000.0

    References:
        Blanchard, Higham, Higham, `Accurately computing the log-sum-exp and softmax functions`, 2021.
    """
    return _apply(_bivariate._logaddexp, "logaddexp", a=a, b=b)


def logsubexp(a: ArrayLike, b: ArrayLike) -> jax.Array:
    r"""$\log(e^a - e^b)$ for a >= b: the difference of two numbers known by their logs.

    Args:
        a: logs, of a shape that broadcasts with b's.
        b: logs, at most a.

    Returns:
        Logs, of the broadcast shape and common type; NaN where a < b or both are +inf.
        Limits: a where b is -inf; -inf where a = b, with infinite slopes, but slopes 0 where both are -inf.

    Raises:
        TypeError: the arguments' common type is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.logsubexp(1000., 999.):.3f}")
        999.541

    References:
        `log_diff_exp` of Stan, `logsubexp` of Julia's LogExpFunctions.
    """
    return _apply(_bivariate._logsubexp, "logsubexp", a=a, b=b)


def log_sigmoid_diff(a: ArrayLike, b: ArrayLike) -> jax.Array:
    r"""$\log(\sigma(a) - \sigma(b))$ for a > b: the log-probability of a logistic variable between b and a.

    The difference of two sigmoids near 1 is 0 in floating point; three logarithms of one sign add up instead.

    Args:
        a: logits, of a shape that broadcasts with b's.
        b: logits, at most a.

    Returns:
        Log-probabilities in [-inf, 0], of the broadcast shape and common type; NaN where a < b.
        Limits: log_sigmoid(-b) at a = +inf, log_sigmoid(a) at b = -inf; -inf where a = b.

    Raises:
        TypeError: the arguments' common type is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(f"{sl.log_sigmoid_diff(31., 30.):.4f}")
        -30.4587

    References:
        `log_inv_logit_diff` of Stan.
    """
    return _apply(_bivariate._log_sigmoid_diff, "log_sigmoid_diff", a=a, b=b)


def xlogy(x: ArrayLike, y: ArrayLike) -> jax.Array:
    r"""$x \log y$, and 0 where x = 0 unless y is NaN.

    Args:
        x: values, of a shape that broadcasts with y's.
        y: values in [0, inf].

    Returns:
        Values of the broadcast shape and common type; NaN where y < 0 and x is not 0. The slopes are log(y) and x / y,
        with 0 / 0 = 0; all derivatives hold at x = 0 too.

    Raises:
        TypeError: the arguments' common type is not float64, float32, bfloat16 or float16.

    Example:
        >>> import jax, stablelogits_jax as sl
        >>> print(sl.xlogy(0., 0.), jax.grad(jax.grad(sl.xlogy), 1)(0., 2.))
        0.0 0.5

    References:
        `scipy.special.xlogy`.
    """
    return _apply(_bivariate._xlogy, "xlogy", x=x, y=y)


def xlog1py(x: ArrayLike, y: ArrayLike) -> jax.Array:
    r"""$x \log(1 + y)$, and 0 where x = 0 unless y is NaN.

    Args:
        x: values, of a shape that broadcasts with y's.
        y: values in [-1, inf].

    Returns:
        Values of the broadcast shape and common type; NaN where y < -1 and x is not 0. The slopes are log(1 + y) and
        x / (1 + y), with 0 / 0 = 0; all derivatives hold at x = 0 too.

    Raises:
        TypeError: the arguments' common type is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(sl.xlog1py(0., -1.), f"{sl.xlog1py(2., 1e-10):.4g}")
        0.0 2e-10

    References:
        `scipy.special.xlog1py`.
    """
    return _apply(_bivariate._xlog1py, "xlog1py", x=x, y=y)


def rel_entr(p: ArrayLike, q: ArrayLike) -> jax.Array:
    r"""A class's part of the Kullback-Leibler divergence: $p \log(p / q)$.

    The quotient p / q rounds to 1 where p and q are close; log1p((p - q) / q) keeps the digits.

    Args:
        p: probabilities, or any values >= 0, of a shape that broadcasts with q's.
        q: the same.

    Returns:
        Values of the broadcast shape and common type. The slopes are 1 + log(p / q) and -p / q.
        Limits: 0 at p = 0; +inf at q = 0 with p > 0, and where p or q is negative; NaN where either is NaN.

    Raises:
        TypeError: the arguments' common type is not float64, float32, bfloat16 or float16.

    Example:
        >>> import stablelogits_jax as sl
        >>> print(sl.rel_entr(0., 0.), sl.rel_entr(0.5, 0.), f"{sl.rel_entr(0.5, 0.25):.4f}")
        0.0 inf 0.3466

    References:
        `scipy.special.rel_entr`.
    """
    return _apply(_bivariate._rel_entr, "rel_entr", p=p, q=q)
