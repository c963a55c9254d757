"""Floor 1: the functions of one or two float32 logits or probabilities in double-float, rounded once.

Each says its algebra in e = exp(-|x|), which neither overflows nor exceeds 1. Where e is below 2^-25 of what it is
added to, the pairs leave it out by themselves. NaN passes through: `_nan`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._double_float import (
    INV_E,
    LN_2,
    Exponential,
    Pair,
    exact,
    exponent,
    exponential,
    fast_two_sum,
    log_of,
    log_ratio,
    one_plus,
    opaque,
    over,
    parts,
    plus,
    power_of_two,
    times,
    two_sum,
    where,
)

TINY, LARGEST = np.finfo(np.float32).tiny, np.finfo(np.float32).max
SMALL = np.float32(2.0**-30)
TINY_SQUARE = np.float32(2.0**-14)  # its square is below the last digit of 1
LEAST = np.float32(2.0**-64)  # 1 / x^2 overflows below it


def _nan(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(x), x, y)


def _one(x: jax.Array) -> Pair:
    return exact(jnp.full_like(x, opaque(1)))


def _signed(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(x >= 0, y, -y)


# The sigmoid family -----------------------------------------------------------------------------------------------


def _decaying(x: jax.Array) -> tuple[Exponential, Pair]:
    """e = exp(-|x|), and 1 + e."""
    e = exponential(exact(-jnp.abs(x)))
    return e, one_plus(e.value())


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + e) for x >= 0, e / (1 + e) below."""
    e, total = _decaying(x)
    positive = x >= 0
    share = over(where(positive, _one(x), e.mantissa()), total)
    return _nan(x, share.rounded() * jnp.where(positive, 1, e.scale()))


def bell(x: jax.Array) -> jax.Array:
    """e / (1 + e)^2"""
    e, total = _decaying(x)
    return _nan(x, over(over(e.mantissa(), total), total).rounded() * e.scale())


def bell_slope(x: jax.Array) -> jax.Array:
    """-e (1 - e) / (1 + e)^3 for x >= 0, odd; -x / 8 for small x, whose digits would be flushed from the products"""
    return _nan(x, jnp.where(jnp.abs(x) < TINY_SQUARE, -x / 8, _signed(x, _falling(x, 0))))


def _falling(x: jax.Array, more: int) -> jax.Array:
    """-2^more e (1 - e) / (1 + e)^3"""
    e, total = _decaying(x)
    half_tanh = over(e.minus_one(), total)
    return times(half_tanh, over(over(e.mantissa(), total), total)).rounded() * e.scale(more)


def softplus(x: jax.Array) -> jax.Array:
    """max(x, 0) + log(1 + e)"""
    y = plus(exact(jnp.maximum(x, 0)), _log1p(*_decaying(x))).rounded()
    return _nan(x, jnp.where(x == jnp.inf, x, y))


def _log1p(e: Exponential, total: Pair) -> Pair:
    """log(1 + e), 1 + e in [1, 2]"""
    k = jnp.where(total.head > np.float32(1.4142135), np.float32(1), np.float32(0))
    return where(e.k < -11, _series(e, 1), log_ratio(total, _one(total.head), k))


def _series(e: Exponential, sign: int) -> Pair:
    """log(1 +- e) = +-(e -+ e^2 / 2 + e^3 / 3) for e < 4e-4: in 1 + e, pair or not, digits of e are rounded off."""
    m, scale = e.mantissa(), e.scale()
    value = m.rounded() * scale
    correction = m.rounded() * (value * (np.float32(0.5) - value * np.float32(sign / 3)))
    return fast_two_sum(m.head, m.tail - sign * correction).scaled(sign * scale)


def tanh(x: jax.Array) -> jax.Array:
    """(1 - e^2) / (1 + e^2), x itself where x^3 / 3 is below its last digit"""
    e, total = _decaying(2 * x)
    y = _signed(x, -over(e.minus_one(), total).rounded())
    return _nan(x, jnp.where(jnp.abs(x) < np.float32(1e-4), x - x * (x * x) / 3, y))


def sech_squared(x: jax.Array) -> jax.Array:
    """4 e^2 / (1 + e^2)^2"""
    e, total = _decaying(2 * x)
    return _nan(x, over(over(e.mantissa(), total), total).rounded() * e.scale(2))


def sech_squared_slope(x: jax.Array) -> jax.Array:
    """-8 e^2 (1 - e^2) / (1 + e^2)^3 for x >= 0, odd; -2 x for small x"""
    return _nan(x, jnp.where(jnp.abs(x) < TINY_SQUARE, -2 * x, _signed(x, _falling(2 * x, 3))))


def log_cosh(x: jax.Array) -> jax.Array:
    """With f = e^2:
    (1) |x| - log 2 + log(1 + f)        cancels for small x
    (2) log((1 + f)^2 / (4 f)) / 2 = atanh(((1 - f) / (1 + f))^2 / (1 + 4 f / (1 + f)^2)), for |x| < 0.6
    """
    a = jnp.abs(x)
    f, total = _decaying(2 * x)
    t = over(f.minus_one(), total)
    square = times(t, t)
    small = log_of(over(square, plus(_one(x), plus(_one(x), -square)))).rounded() / 2
    head, tail = parts(LN_2, np.float32)
    far = plus(plus(exact(a), Pair(-head, -tail)), _log1p(f, total)).rounded()
    y = jnp.where(a < np.float32(0.6), small, jnp.where(a == jnp.inf, a, far))
    return _nan(x, jnp.where(a < np.float32(1e-4), a * (a * np.float32(0.5)), y))


# The inverse of the sigmoid ---------------------------------------------------------------------------------------


def _other(p: jax.Array) -> Pair:
    """1 - p"""
    return two_sum(opaque(1), -p)


def _inside(p: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((p >= 0) & (p <= 1), y, jnp.nan)


def logit(p: jax.Array) -> jax.Array:
    """log(p / (1 - p)): near 1/2 the difference 2 p - 1 of the two is exact, as 1 - p is in two parts."""
    q = _other(p)
    k = jnp.clip(exponent(p / q.head), -126, 126)
    y = jnp.where(p == 0, -jnp.inf, jnp.where(p == 1, jnp.inf, log_ratio(exact(p), q, k).rounded()))
    return _inside(p, y)


def slope(p: jax.Array) -> jax.Array:
    """1 / (p (1 - p))"""
    q = _other(p)
    y = over(over(_one(p), q), exact(jnp.maximum(p, SMALL))).rounded()
    return _inside(p, jnp.where(p >= 1, jnp.inf, jnp.where(p < SMALL, 1 / jnp.maximum(p, 0), y)))


def slope_slope(p: jax.Array) -> jax.Array:
    """(2 p - 1) / (p (1 - p))^2"""
    q = _other(p)
    safe = exact(jnp.maximum(p, LEAST))
    difference = plus(exact(p), -q)
    y = over(over(over(over(difference, q), q), safe), safe).rounded()
    return _inside(p, jnp.where(p < LEAST, -jnp.inf, jnp.where(p >= 1, jnp.inf, y)))


# The exp(x) - 1 family --------------------------------------------------------------------------------------------


def _absorbed(x: jax.Array) -> tuple[Exponential, Pair]:
    """e = exp(-x), and 1 - e, which is x for small x."""
    e = exponential(exact(-x))
    return e, -e.minus_one()


def _positive(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(x >= 0, y, jnp.nan)


def bose(x: jax.Array) -> jax.Array:
    """1 / (exp(x) - 1) = e / (1 - e)"""
    e, rest = _absorbed(x)
    y = over(fast_two_sum(*e.mantissa()), rest).rounded() * e.scale()
    return _positive(x, jnp.where(x < SMALL, 1 / jnp.abs(x), y))


def bose_slope(x: jax.Array) -> jax.Array:
    """-e / (1 - e)^2, which is -1 / x^2 for small x"""
    e, rest = _absorbed(x)
    small = x < SMALL
    rest = where(small, exact(jnp.maximum(x, LEAST)), rest)
    mantissa = where(small, _one(x), fast_two_sum(*e.mantissa()))
    y = over(over(mantissa, rest), rest).rounded() * e.scale()
    return _positive(x, jnp.where(x < LEAST, -jnp.inf, -y))


def one_plus_bose(x: jax.Array) -> jax.Array:
    """1 / (1 - e)"""
    _, rest = _absorbed(x)
    return _positive(x, jnp.where(x < SMALL, 1 / jnp.abs(x), over(_one(x), rest).rounded()))


def log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - e), and log(x) for small x"""
    return _positive(x, jnp.where(x == 0, -jnp.inf, _log1mexp(exact(x)).rounded()))


def _log1mexp(x: Pair) -> Pair:
    e = exponential(-x)
    rest = where(x.head < SMALL, Pair(jnp.maximum(x.head, TINY), x.tail), -e.minus_one())
    return where(e.k < -11, _series(e, -1), log_ratio(rest, _one(x.head), exponent(rest.rounded())))


def logitexp(log_p: jax.Array) -> jax.Array:
    """With x = -log_p and e = 2^k (1 + d):
    (1) log(e / (1 - e))        at e = 1/2, where it crosses zero, the difference of the two cancels
    (2) log((1 + d) / (1 - d)) = 2 atanh(d)        for k = -1 and small d
    (3) -x + e + e^2 / 2        for large x
    (4) -log(x)        for small x
    """
    x = -log_p
    e, rest = _absorbed(x)
    small, large = x < SMALL, x > 8
    value = e.value()
    a, b = where(small, _one(x), value), where(small, exact(jnp.maximum(x, TINY)), rest)
    k = exponent(a.rounded() / b.rounded())
    a, b = a.scaled(power_of_two(jnp.clip(-k, 0, 126))), b.scaled(power_of_two(jnp.clip(k, 0, 126)))
    d = e.excess()
    half = (e.k == -1) & (jnp.abs(d.head) < np.float32(0.17))
    q = over(where(half, d, plus(a, -b)), where(half, _one(x), plus(a, b)))
    y = log_of(q, jnp.where(half, 0, k)).rounded()
    tail = value.rounded()
    y = jnp.where(large, log_p + tail * (1 + np.float32(0.5) * tail), y)
    return _positive(x, jnp.where(x == 0, jnp.inf, y))


# Two logits -------------------------------------------------------------------------------------------------------


def _apart(a: jax.Array, b: jax.Array) -> tuple[Pair, jax.Array]:
    """a - b for finite a and b, and where both are."""
    finite = jnp.isfinite(a) & jnp.isfinite(b)
    return two_sum(jnp.where(finite, a, 0), -jnp.where(finite, b, 0)), finite


def logaddexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """max(a, b) + log(1 + exp(-|a - b|))"""
    top = jnp.maximum(a, b)
    distance, finite = _apart(top, jnp.minimum(a, b))
    e = exponential(-distance)
    return jnp.where(finite, plus(exact(top), _log1p(e, one_plus(e.value()))).rounded(), top)


def logsubexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """a + log(1 - exp(-(a - b))) for a >= b"""
    distance, finite = _apart(a, b)
    y = plus(exact(a), _log1mexp(distance)).rounded()
    y = jnp.where(finite, y, a + jnp.where(jnp.isnan(b), b, 0))
    return jnp.where(a < b, jnp.nan, jnp.where(a == b, -jnp.inf, y))


# Probabilities ----------------------------------------------------------------------------------------------------


def _log(p: jax.Array) -> Pair:
    k = exponent(jnp.maximum(p, TINY))
    bits = jax.lax.bitcast_convert_type(jnp.clip(p, TINY, LARGEST), jnp.int32) - (k.astype(jnp.int32) << 23)
    mantissa = exact(jax.lax.bitcast_convert_type(bits, jnp.float32))
    return log_of(over(plus(mantissa, -_one(p)), plus(mantissa, _one(p))), k)


def entr(p: jax.Array) -> jax.Array:
    """-p log(p), of a small p times 2^64, or its digits would be flushed from the products, of a large one over that"""
    size = jnp.where(p < LEAST, 1 / LEAST, jnp.where(p > 1 / LEAST, LEAST, np.float32(1)))
    y = times(exact(p * size), -_log(p)).rounded() / size
    y = jnp.where(p == 0, 0, jnp.where(p < 0, -jnp.inf, y))
    return _nan(p, jnp.where(p == jnp.inf, -jnp.inf, y))


def log_times_e(p: jax.Array) -> jax.Array:
    """1 + log(p); around its zero 1 / e, log(p / (1 / e)) with 1 / e in three parts"""
    head, middle, tail = parts(INV_E, np.float32, 3)
    near = jnp.abs(p - head) < np.float32(0.1)
    n = fast_two_sum(jnp.where(near, p - head, 0), -middle)
    d = where(near, plus(exact(p), Pair(head, middle)), _one(p))
    close = log_of(over(Pair(n.head, n.tail - tail), d)).rounded()
    y = jnp.where(near, close, plus(_one(p), _log(p)).rounded())
    y = jnp.where(p == 0, -jnp.inf, jnp.where(p < 0, jnp.nan, y))
    return _nan(p, jnp.where(p == jnp.inf, p, y))
