"""Floor 2: T^2 KL(softmax(t / T) || softmax(x / T)), of two rows of logits, and its rules.

Rows are [..., n]. With p and q the two distributions, e = d - sum p d for d = x - t, and c = e / T, which is
log(q / p) but for a constant:

    KL = log(sum p exp(c)) = log1p(sum p phi(c))        phi(c) = exp(c) - 1 - c >= 0
    slope in x: T (q - p)        slope in t: -p e

Differences of log q and log p, each of which is near -log n for a large T, have lost the digits of c.
"""

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


@jax.custom_jvp
def _centred(x: jax.Array, t: jax.Array, weights: jax.Array) -> jax.Array:
    """d - sum w d with d = x - t, and 0 for classes of weight 0. What is rounded off d is added where d is small again,
    beside the d of a class of the largest weight: a mean of large numbers would be rounded. Infinities of both signs
    have no mean."""
    none = weights == 0
    equal = none | (x == t)
    d = two_sum(jnp.where(equal, 0, x), -jnp.where(equal, 0, t))
    infinite = jnp.isinf(d.head)
    top = (weights == jnp.max(weights, -1, keepdims=True)) & ~infinite
    start = jnp.max(jnp.where(top, d.head, -jnp.inf), -1, keepdims=True)
    start = jnp.where(jnp.isinf(start), 0, start)
    c = jnp.where(infinite, d.head, (d.head - start) + jnp.where(infinite, 0, d.tail))
    c = jnp.where(none, 0, c)
    more = jnp.where(jnp.any(infinite, -1, keepdims=True), 0, jnp.sum(c * weights, -1, keepdims=True))
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
    """(x - top) / T, which for every softmax is x / T"""
    x = _stats._rounded(x)
    top = as_type(jnp.max(x, -1, keepdims=True), temperature.dtype)
    return _stats._shift(x, top) / temperature


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


@jax.custom_jvp
def _divergence(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    p, _, near_value, near = _near(x, t, temperature)
    log_p, log_q = (_rows.log_softmax(_tempered(a, temperature)) for a in (t, x))
    far = jnp.sum(_phi(p, _difference(log_q, log_p), jnp.exp(log_q) - p), -1, keepdims=True)
    far = temperature * (temperature * far)  # the square may overflow before the product does
    return jnp.where(near, near_value, far)[..., 0]


@jax.custom_jvp
def _excess(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    """T (q - p) = T p (exp(c - KL) - 1); at a class with q > 1/2 minus the sum of the others, as it cancels there."""
    p, e, value, near = _near(x, t, temperature)
    q = _rows.softmax(_tempered(x, temperature))
    e = e - value / temperature
    d = e / temperature
    small = p * e * (1 + d * _phi_over_square(d))
    hot = q > 0.5
    far = jnp.where(hot, 0, temperature * (q - p))
    return jnp.where(near, small, jnp.where(hot, -jnp.sum(far, -1, keepdims=True), far))


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
    """p e, the slope of p along d. Classes of +inf compare as equal finite ones, beside which no other has a weight."""
    z = _tempered(t, temperature)
    x, t = wide(x), wide(t)
    above = t == jnp.inf
    x, t = masked(x, ~(above & (x == jnp.inf)), 0), masked(t, ~above, 0)
    return _softmax_slope(z, _centred(x, t, jax.lax.stop_gradient(_rows.softmax(z))))


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
