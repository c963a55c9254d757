"""Floor 2: T^2 KL(softmax(t / T) || softmax(x / T)), of two rows of logits, and its rules.

Rows are [..., n]. With p and q the two distributions, e = d - sum p d for d = x - t, and c = e / T, which is
log(q / p) but for a constant:

    KL = log(sum p exp(c)) = log1p(sum p phi(c))        phi(c) = exp(c) - 1 - c >= 0
    slope in x: T (q - p)        slope in t: -p e

Differences of log q and log p, each of which is near -log n for a large T, have lost the digits of c.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax import _rows, _stats
from stablelogits_jax._bivariate import _difference
from stablelogits_jax._checks import as_type
from stablelogits_jax._closed import _log1p, _phi_over_square
from stablelogits_jax._core import masked, wide
from stablelogits_jax._double_float import two_sum
from stablelogits_jax._relative_entropy import _phi

# d = x - t about a mean -------------------------------------------------------------------------------------------


def beside(x: jax.Array, t: jax.Array, start: jax.Array | float) -> jax.Array:
    """d - start, to which what is rounded off d is added where it is small again: a mean of large numbers would be
    rounded. Two infinities of one sign are equal."""
    x, t = wide(x), wide(t)
    d = two_sum(x, -t)
    return jnp.where(jnp.isfinite(d.head), (d.head - start) + d.tail, jnp.where(x == t, -start, d.head))


@jax.custom_jvp
def _centred(x: jax.Array, t: jax.Array, weights: jax.Array) -> jax.Array:
    """d - sum w d with d = x - t, and 0 for classes of weight 0, beside the d of a class of the largest weight.
    Infinities of both signs have no mean."""
    none, d = weights == 0, beside(x, t, 0)
    infinite = jnp.isinf(d)
    top = (weights == jnp.max(weights, -1, keepdims=True)) & ~infinite
    start = jnp.max(jnp.where(top, d, -jnp.inf), -1, keepdims=True)
    start = jnp.where(jnp.isinf(start), 0, start)
    c = jnp.where(none, 0, beside(x, t, start))
    more = jnp.where(jnp.any(infinite & ~none, -1, keepdims=True), 0, jnp.sum(c * weights, -1, keepdims=True))
    return jnp.where(none, 0, c - more)


@partial(_centred.defjvp, symbolic_zeros=True)
def _centred_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The weights are constants: whoever lets them move knows that no constant of the row counts."""
    c, weights = _centred(*primals), primals[2]
    (x_dot, t_dot, _), d_dot = tangents, jnp.zeros_like(c)
    if not isinstance(x_dot, SymbolicZero):
        d_dot += x_dot
    if not isinstance(t_dot, SymbolicZero):
        d_dot -= t_dot
    d_dot = jnp.where(weights == 0, 0, d_dot)
    return c, jnp.where(weights == 0, 0, d_dot - jnp.sum(weights * d_dot, -1, keepdims=True))


# x / T ------------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def _tempered(x: jax.Array, temperature: jax.Array) -> jax.Array:
    """(x - top) / T, which for every softmax is x / T. A T of inf, by which no -inf is divided, is F / 8: the inverse
    of F is subnormal."""
    x = _stats._rounded(x)
    top = as_type(jnp.max(x, -1, keepdims=True), temperature.dtype)
    return _stats._shift(x, top) / jnp.minimum(temperature, float(jnp.finfo(temperature.dtype).max) / 8)


@partial(_tempered.defjvp, symbolic_zeros=True)
def _tempered_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The top, a constant of the row, does not move. An absent class has no slope in T."""
    temperature, (x_dot, temperature_dot) = primals[1], tangents
    z = _tempered(*primals)
    z_dot = jnp.zeros_like(z)
    if not isinstance(x_dot, SymbolicZero):
        z_dot += as_type(x_dot, z.dtype) / temperature
    if not isinstance(temperature_dot, SymbolicZero):
        z_dot -= _present(z) / temperature * temperature_dot
    return z, z_dot


def _present(z: jax.Array) -> jax.Array:
    return masked(z, z > -jnp.inf, 0)


# The divergence ---------------------------------------------------------------------------------------------------


def _near(x: jax.Array, t: jax.Array, temperature: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """p, e, T^2 KL by the sum of phi(c), and whether that holds: |c| < 1 for all classes, but those absent from both.

    With T taken out, nothing underflows: T^2 KL = V log1p(S) / S for V = sum p e^2 phi(c) / c^2 and S = V / T^2.
    """
    p = _rows.softmax(_tempered(t, temperature))
    x, t = wide(x), wide(t)
    e = _centred(x, t, p)
    c = e / temperature
    near = ((p > 0) & (jnp.abs(c) < 1)) | ((x == -jnp.inf) & (t == -jnp.inf))
    near = jnp.all(near, -1, keepdims=True)
    v = jnp.sum(jnp.where(near, p * e * (e * _phi_over_square(c)), 0), -1, keepdims=True)
    s = v / temperature / temperature
    return p, e, v * jnp.where(s > 2.0**-30, _log1p(s) / s, 1 - s / 2), near


def _unless_far(p: jax.Array, q: jax.Array, with_near: Callable, far: jax.Array) -> jax.Array:
    """with_near(), whose sums over rows none takes if all are far: in others no log(q / p) = c - KL is above 1.6. Of
    short rows there is always one that is not."""
    if not _stats.is_long(p):
        return with_near()
    tiny = 8 * float(jnp.finfo(p.dtype).tiny)
    near = jnp.all((p <= 5 * q + tiny) & (q <= 5 * p + tiny), -1)
    return jax.lax.cond(jnp.any(near), with_near, lambda: far)


def _with_stats(x: jax.Array, t: jax.Array, temperature: jax.Array) -> tuple[list[jax.Array], list[_stats.Stats]]:
    rows = [_tempered(a, temperature) for a in (t, x)]
    return rows, [_stats._stats(z, keep=False) for z in rows]


@jax.custom_jvp
def _divergence(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    rows, stats = _with_stats(x, t, temperature)
    p, (log_p, log_q) = _rows._softmax(rows[0], stats[0]), map(_rows._log_softmax, rows, stats)
    q = jnp.exp(log_q)
    far = jnp.sum(_phi(p, _difference(log_q, log_p), q - p), -1, keepdims=True)
    far = temperature * (temperature * far)  # the square may overflow before the product does

    def with_near() -> jax.Array:
        _, _, value, near = _near(x, t, temperature)
        return jnp.where(near, value, far)

    return _unless_far(p, q, with_near, far)[..., 0]


@jax.custom_jvp
def _excess(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    """T (q - p) = T p (exp(c - KL) - 1); at a class with q > 1/2 minus the sum of the others, as it cancels there."""
    p, q = map(_rows._softmax, *_with_stats(x, t, temperature))
    hot = q > 0.5
    far = jnp.where(hot, 0, temperature * (q - p))
    far = jnp.where(hot, -jnp.sum(far, -1, keepdims=True), far)

    def with_near() -> jax.Array:
        p, e, value, near = _near(x, t, temperature)
        e = e - value / temperature
        d = e / temperature
        return jnp.where(near, p * e * (1 + d * _phi_over_square(d)), far)

    return _unless_far(p, q, with_near, far)


@partial(_excess.defjvp, symbolic_zeros=True)
def _excess_jvp(primals: tuple, tangents: tuple) -> tuple:
    """J_q x_dot - J_p t_dot, with J the slope of softmax; in T it is q - p - J_q x / T + J_p t / T."""
    x, t, temperature = primals
    x_dot, t_dot, temperature_dot = tangents
    g = _excess(*primals)
    g_dot = jnp.zeros_like(g)
    for sign, a, a_dot in ((1, x, x_dot), (-1, t, t_dot)):
        z = _tempered(a, temperature)
        if not isinstance(a_dot, SymbolicZero):
            g_dot += sign * _softmax_slope(z, as_type(a_dot, z.dtype))
        if not isinstance(temperature_dot, SymbolicZero):
            g_dot += sign * temperature_dot * (_rows.softmax(z) - _softmax_slope(z, _present(z)))
    return g, g_dot


def _softmax_slope(z: jax.Array, z_dot: jax.Array) -> jax.Array:
    return jax.jvp(_rows.softmax, (z,), (z_dot,))[1]


def _pull(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    """p e, the slope of p along d. Classes of +inf compare as equal finite ones, beside which no other has a weight.
    Where d may be beyond the largest float, or its distance from the mean, an eighth of both is taken."""
    z = _tempered(t, temperature)
    x, t = wide(x), wide(t)
    above = t == jnp.inf
    x, t = masked(x, ~(above & (x == jnp.inf)), 0), masked(t, ~above, 0)
    largest = float(jnp.finfo(x.dtype).max)
    huge = jnp.any((largest / 8 < jnp.maximum(_size(x), _size(t))), -1, keepdims=True)
    part = jnp.where(huge, jnp.asarray(0.125, x.dtype), 1)
    e = _centred(part * x, part * t, jax.lax.stop_gradient(_rows.softmax(z)))
    e = jnp.where(huge & jnp.isfinite(e), jnp.clip(e, -largest / 8, largest / 8), e) / part
    return _softmax_slope(z, e)


def _size(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isinf(x), 0, jnp.abs(jax.lax.stop_gradient(x)))


@partial(_divergence.defjvp, symbolic_zeros=True)
def _divergence_jvp(primals: tuple, tangents: tuple) -> tuple:
    """In T it is (2 T^2 KL - <T (q - p), x> + <p e, t>) / T."""
    x, t, temperature = primals
    x_dot, t_dot, temperature_dot = tangents
    y = _divergence(*primals)
    y_dot = jnp.zeros_like(y)
    if not isinstance(x_dot, SymbolicZero):
        y_dot += _stats.inner(_excess(*primals), x_dot)
    if not isinstance(t_dot, SymbolicZero):
        y_dot -= _stats.inner(_pull(*primals), t_dot)
    if not isinstance(temperature_dot, SymbolicZero):
        z_x, z_t = (_present(_tempered(a, temperature)) for a in (x, t))
        moved = _stats.inner(_excess(*primals), z_x) - _stats.inner(_pull(*primals), z_t)
        y_dot += (2 * y / temperature[..., 0] - moved) * temperature_dot[..., 0]
    return y, y_dot


def divergence(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    """Where t has no class, q's parts do not add up to 0 with it: x is taken to have none either."""
    x = masked(x, ~jnp.all(t == -jnp.inf, -1, keepdims=True), -jnp.inf)
    return _divergence(x, t, jnp.broadcast_to(temperature[..., None], (*x.shape[:-1], 1)))
