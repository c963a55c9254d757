"""Floor 1: logit, log(1 - exp(-x)), x log x, their slopes, and the functions of two logits, of float32 numbers in
double-float, rounded once. See `_sigmoid_kernels.py`."""

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._double_float import (
    Pair,
    at_least,
    exact,
    fast_two_sum,
    in_one_loop,
    opaque,
    over,
    parts,
    plus,
    times,
    two_sum,
    where,
)
from stablelogits_jax._exp_log import (
    FARTHEST,
    Exponential,
    distance,
    exponential,
    log1p,
    log_ratio,
    mantissa,
    normalized,
    power_of_two,
    twice_atanh,
)
from stablelogits_jax._series import INV_E
from stablelogits_jax._sigmoid_kernels import (
    FAINT,
    _one,
    _series,
    bell_parts,
    log_one_plus_e,
    sigmoid_parts,
    softplus,
    softplus_pair,
)

TINY, LARGEST = np.finfo(np.float32).tiny, np.finfo(np.float32).max
SMALL = np.float32(2.0**-30)
LEAST = np.float32(2.0**-64)  # 1 / x^2 overflows below it


def inverse(x: jax.Array) -> jax.Array:
    """1 / x for x >= 0 without a sign, also where x is subnormal and its inverse is not yet infinite."""
    y, k = normalized(x)
    return (1 / y) * power_of_two(k)


# The inverse of the sigmoid ---------------------------------------------------------------------------------------


def _other(p: jax.Array) -> Pair:
    """1 - p"""
    return two_sum(opaque(1), -p)


def _inside(p: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((p >= 0) & (p <= 1), y, jnp.nan)


def logit(p: jax.Array) -> jax.Array:
    """log(p / (1 - p)): near 1/2 the difference 2 p - 1 of the two is exact, as 1 - p is in two parts.

    The smaller of the two is scaled up: the digits of the other, scaled down, might be flushed.
    """
    a, shift = normalized(p)
    q = _other(p)
    k = distance(a, q.head)
    ratio = log_ratio(exact(a * power_of_two(-jnp.minimum(k, 0))), q.scaled(power_of_two(jnp.maximum(k, 0))), k - shift)
    y = jnp.where(a == 0, -jnp.inf, jnp.where(p == 1, jnp.inf, ratio.rounded()))
    return _inside(p, y)


def slope(p: jax.Array) -> jax.Array:
    """1 / (p (1 - p))"""
    small = p < SMALL
    y = over(_one(p), times(exact(p), _other(p))).rounded()
    return _inside(p, jnp.where(p >= 1, jnp.inf, jnp.where(small, inverse(p), y)))


def slope_slope(p: jax.Array) -> jax.Array:
    """(2 p - 1) / (p (1 - p))^2"""
    q = _other(p)
    scale = jnp.where(p < SMALL, 1 / SMALL, np.float32(1))
    product = times(exact(at_least(LEAST, p) * scale), q)
    y = over(plus(exact(p), -q), times(product, product)).rounded() * scale * scale
    return _inside(p, jnp.where(p < LEAST, -jnp.inf, jnp.where(p >= 1, jnp.inf, y)))


# The exp(x) - 1 family --------------------------------------------------------------------------------------------


def _absorbed(x: Pair) -> tuple[Exponential, Pair]:
    """e = exp(-x), and 1 - e, which is x for small x."""
    e = exponential(-x)
    return e, -e.minus_one()


def _positive(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(x >= 0, y, jnp.nan)


def bose(x: jax.Array) -> jax.Array:
    return bose_at(exact(x))


def bose_at(x: Pair) -> jax.Array:
    """1 / (exp(x) - 1) = e / (1 - e)"""
    e, rest = _absorbed(x)
    y = over(e.mantissa(), rest).rounded() * e.scale()
    return _positive(x.head, jnp.where(x.head < SMALL, inverse(jnp.abs(x.head)), y))


def bose_slope(x: jax.Array) -> jax.Array:
    return bose_slope_at(exact(x))


def bose_slope_at(x: Pair) -> jax.Array:
    """-e / (1 - e)^2, which is -1 / x^2 for small x"""
    e, rest = _absorbed(x)
    small = x.head < SMALL
    rest = where(small, exact(at_least(LEAST, x.head)), rest)
    y = over(over(where(small, _one(x.head), e.mantissa()), rest), rest).rounded() * e.scale()
    return _positive(x.head, jnp.where(x.head <= LEAST, -jnp.inf, -y))


def one_plus_bose(x: jax.Array) -> jax.Array:
    return one_plus_bose_at(exact(x))


def one_plus_bose_at(x: Pair) -> jax.Array:
    """1 / (1 - e)"""
    _, rest = _absorbed(x)
    y = over(_one(x.head), rest).rounded()
    return _positive(x.head, jnp.where(x.head < SMALL, inverse(jnp.abs(x.head)), y))


def log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - e), and log(x) for small x"""
    normal, shift = normalized(x)
    y = _log1mexp(exact(x), exact(normal), shift).rounded()
    return _positive(x, jnp.where(normal == 0, -jnp.inf, y))


def log1mexp_at(x: Pair) -> Pair:
    return _log1mexp(x, x, jnp.zeros_like(x.head, jnp.int32))


def _log1mexp(x: Pair, small: Pair, shift: jax.Array) -> Pair:
    """log(1 - e), where x is small as log(small) - shift log 2"""
    e = exponential(-x)
    is_small = x.head < SMALL
    rest = where(is_small, Pair(at_least(TINY, small.head), small.tail), -e.minus_one())
    return where(e.k < FAINT, _series(e, -1), _log(rest, jnp.where(is_small, shift, 0)))


def _log(x: Pair, shift: jax.Array | int) -> Pair:
    """log(x) - shift log 2"""
    m, k = mantissa(x.head)
    return log1p(Pair(m - opaque(1), x.tail * power_of_two(-k)), k - shift)


def log_one_plus(u: jax.Array) -> jax.Array:
    """log(1 + u), of 1 + u in two parts, the second of which is u where it is small."""
    y = _log(two_sum(opaque(1), jnp.where(jnp.abs(u) < jnp.inf, u, 0)), 0).rounded()
    y = jnp.where(u == -1, -jnp.inf, jnp.where(u >= -1, y, jnp.nan))
    return jnp.where(u == jnp.inf, u, y)


def logitexp(log_p: jax.Array) -> jax.Array:
    """With x = -log_p and e = 2^k (1 + d):
    (1) log(e / (1 - e))        at e = 1/2, where it crosses zero, the difference of the two cancels
    (2) log((1 + d) / (1 - d)) = 2 atanh(d)        for k = -1 and small d
    (3) -x + e + e^2 / 2        for large x
    (4) -log(x)        for small x
    """
    x = -log_p
    normal, shift = normalized(x)
    e, rest = _absorbed(exact(x))
    small, large = x < SMALL, x > 8
    value = e.value()
    a, b = where(small, _one(x), value), where(small, exact(at_least(TINY, normal)), rest)
    k = distance(a.head, b.head)
    a, b = a.scaled(power_of_two(-jnp.minimum(k, 0))), b.scaled(power_of_two(jnp.maximum(k, 0)))
    d = e.excess
    half = (e.k == -1) & (jnp.abs(d.head) < np.float32(0.17))
    q = over(where(half, d, plus(a, -b)), where(half, _one(x), plus(a, b)))
    y = twice_atanh(q, jnp.where(half, 0, k + jnp.where(small, shift, 0))).rounded()
    tail = value.rounded()
    y = jnp.where(large, log_p + tail * (1 + np.float32(0.5) * tail), y)
    return _positive(x, jnp.where(normal == 0, jnp.inf, y))


# Two logits -------------------------------------------------------------------------------------------------------


def difference(a: jax.Array, b: jax.Array) -> Pair:
    """a - b, and 0 for equal infinities. Beyond what exp takes of it the tail may be of any size, and is left out."""
    s = two_sum(a, -b)
    return Pair(jnp.where(a == b, 0, s.head), jnp.where(jnp.abs(s.head) < FARTHEST, s.tail, 0))


def logaddexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """max(a, b) + log(1 + exp(-|a - b|))"""
    top = jnp.maximum(a, b)
    y = plus(exact(top), log_one_plus_e(exponential(difference(jnp.minimum(a, b), top)))).rounded()
    return jnp.where(jnp.isfinite(a) & jnp.isfinite(b), y, top)


def logsubexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """a + log(1 - exp(-(a - b))) for a >= b"""
    y = plus(exact(a), log1mexp_at(difference(a, b))).rounded()
    y = jnp.where(jnp.isfinite(a) & jnp.isfinite(b), y, a + jnp.where(jnp.isnan(b), b, 0))
    return jnp.where(a < b, jnp.nan, jnp.where(a == b, -jnp.inf, y))


def log_sigmoid_diff(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(sigmoid(a) sigmoid(-b) (1 - exp(-(a - b)))): three logarithms of one sign."""
    d = difference(a, b)
    finite = jnp.isfinite(a) & jnp.isfinite(b)
    sure = plus(*(softplus_pair(jnp.where(finite, x, 0)) for x in (-a, b)))
    y = jnp.where(finite, plus(log1mexp_at(d), -sure).rounded(), -(softplus(-a) + softplus(b)))
    return jnp.where(a < b, jnp.nan, jnp.where(a == b, -jnp.inf, y))


def log_sigmoid_diff_slope(a: jax.Array, b: jax.Array) -> jax.Array:
    """sigmoid(-a) + 1 / (exp(a - b) - 1)"""
    d = difference(a, b)
    e, rest = _absorbed(d)
    quotient = over(e.mantissa(), _not_tiny(d, rest))
    y = _together(_beyond(a, sigmoid_parts(exact(-a))), _beyond(d.head, (quotient, e.k)))
    return _positive(d.head, jnp.where(d.head < LEAST, inverse(jnp.abs(d.head)), y))


def log_sigmoid_diff_curvature(a: jax.Array, b: jax.Array) -> jax.Array:
    """bell(a) + e / (1 - e)^2 with e = exp(-(a - b))"""
    d = difference(a, b)
    e, rest = _absorbed(d)
    rest = _not_tiny(d, rest)
    quotient = over(over(e.mantissa(), rest), rest)
    y = _together(_beyond(jnp.abs(a), bell_parts(exact(a))), _beyond(d.head, (quotient, e.k)))
    return _positive(d.head, jnp.where(d.head <= LEAST, jnp.inf, y))


def _not_tiny(x: Pair, rest: Pair) -> Pair:
    return where(x.head < LEAST, exact(jnp.full_like(x.head, LEAST)), rest)


def _beyond(x: jax.Array, term: tuple[Pair, jax.Array]) -> tuple[Pair, jax.Array]:
    """A term that is exp(-x) for large x, of which exp was taken of FARTHEST at most."""
    return term[0].scaled(jnp.exp(FARTHEST - at_least(FARTHEST, x))), term[1]


def _together(a: tuple[Pair, jax.Array], b: tuple[Pair, jax.Array]) -> jax.Array:
    """2^k_a y_a + 2^k_b y_b, scaled last, in two steps: either term may be flushed, and so may the power."""
    k = jnp.maximum(a[1], b[1])
    y = plus(*(term.scaled(power_of_two(at - k)) for term, at in (a, b))).rounded()
    half = jnp.floor(k * np.float32(0.5))
    return y * power_of_two(half) * power_of_two(k - half)


# Probabilities ----------------------------------------------------------------------------------------------------


def _log_of(p: jax.Array) -> tuple[Pair, jax.Array, jax.Array]:
    """log(p), and the p of which it is taken: a normal p 2^k, and k."""
    normal, k = normalized(p)
    m, exponent = mantissa(jnp.clip(normal, TINY, LARGEST))
    return log1p(exact(m - opaque(1)), exponent - k), normal, k


def entr(p: jax.Array) -> jax.Array:
    """-p log(p), of a small p times 2^64, or its digits would be flushed from the products, of a large one over that"""
    log_p, normal, _ = _log_of(p)
    size = jnp.where(p < LEAST, 1 / LEAST, jnp.where(p > 1 / LEAST, LEAST, np.float32(1)))
    y = times(exact(jnp.where(p < TINY, normal, p * size)), fast_two_sum(*-log_p)).rounded() / size
    y = jnp.where(normal == 0, 0, jnp.where(p < 0, -jnp.inf, y))
    return in_one_loop(p, jnp.where(p == jnp.inf, -jnp.inf, y))


def log_times_e(p: jax.Array) -> jax.Array:
    """1 + log(p); around its zero 1 / e, log(p / (1 / e)) with 1 / e in three parts"""
    head, middle, tail = parts(INV_E, np.float32, 3)
    near = jnp.abs(p - head) < np.float32(0.1)
    n = fast_two_sum(jnp.where(near, p - head, 0), -middle)
    d = where(near, plus(exact(p), Pair(head, middle)), _one(p))
    close = twice_atanh(over(Pair(n.head, n.tail - tail), d)).rounded()
    log_p, normal, _ = _log_of(p)
    y = jnp.where(near, close, plus(_one(p), log_p).rounded())
    y = jnp.where(normal == 0, -jnp.inf, jnp.where(p < 0, jnp.nan, y))
    return in_one_loop(p, jnp.where(p == jnp.inf, p, y))
