"""Floor 2: sum y f(s), of the surprisals s = -log p of a row of logits, and its rules. Rows are [..., n].

Of p > 1/2 a row has one class at most, the top, whose s is `log_total`: f of it, with all digits, is taken once for the
row, and the other classes have the quick forms of `Modulation`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from stablelogits_jax import _rows
from stablelogits_jax._bivariate import _times
from stablelogits_jax._core import moved, recomputed
from stablelogits_jax._cross_entropy import Found, chances, found, found_for_value, linear_excess
from stablelogits_jax._double_float import written
from stablelogits_jax._row_sums import sums
from stablelogits_jax._stats import with_stats
from stablelogits_jax._surprisals import FOCAL, POLY, Modulation


def _sum(x: jax.Array) -> jax.Array:
    return sums(lambda x: x, [x])


def _surprisals(x: jax.Array, of: Found) -> jax.Array:
    return -_rows._log_softmax(x, of.stats)


def _present(s: jax.Array, y: jax.Array, slope: jax.Array) -> jax.Array:
    """The slope, and 0 for an absent class without a share."""
    return jnp.where((y == 0) & (s == jnp.inf), 0, slope)


def _in_number(f: Callable, s: jax.Array, number: jax.Array, dot: jax.Array) -> jax.Array:
    """How f(s, number) moves with the number; 0 at s = 0, where that may be infinite, of an s that does not move."""
    still = s == 0
    return jnp.where(still, 0, jax.jvp(lambda number: f(jnp.where(still, 1, s), number), (number,), (dot,))[1])


def _sum_of(h: Modulation) -> Callable:
    """The sum, to which an absent class without a share adds nothing, nor has it slopes."""

    @jax.custom_jvp
    def each(s: jax.Array, number: jax.Array, p: jax.Array, of: Found) -> jax.Array:
        return jnp.where(p > 0.5, h.f(of.stats.log_total, number), h.quick(s, number, p))

    @each.defjvp
    def each_jvp(primals: tuple, tangents: tuple) -> tuple:
        return each(*primals), jax.jvp(h.f, primals[:2], tangents[:2])[1]

    @jax.custom_jvp
    def slope(x: jax.Array, y: jax.Array, number: jax.Array, of: Found) -> jax.Array:
        """Z p - z with z = y f' and Z = sum z. All add up to 0: at the hot class, of p > 1/2, where it cancels, it is
        minus the sum of the others, and without one what is left of the sum is taken off in shares of p. With z =
        y (a + b p), (1) is taken but in float64

        (1) p Z - z        rounds z, which in float64 costs as much as what the sum and p are off
        (2) p (Z - y b) - y a        takes a third more time: XLA:CPU shares no z between the passes
        """
        p = chances(x, of)
        a, b = h.quick_slope(_surprisals(x, of), number, p)
        hot = (p > 0.5) & (of.stats.total < 2)
        z = jnp.where(hot, y * h.slope(of.stats.log_total, number), y * a + y * b * p)
        total = of.stats.whole(_sum(z))
        g = jnp.where(hot, 0, p * (total - y * b) - y * a if p.dtype == jnp.float64 else p * total - z)
        rest = of.stats.whole(_sum(g))
        g = jnp.where(hot, -rest, g - jnp.where(of.stats.total < 2, 0, rest) * p)
        return jnp.where(of.stats.total == 0, 0, g)

    @partial(slope.defjvp, symbolic_zeros=True)
    def slope_jvp(primals: tuple, tangents: tuple) -> tuple:
        """With s' = p - onehot, the slope of all s in x, that of s' z is s' (z_dot + Z p s_dot). An infinite curvature
        of f, at s = 0, is of a class whose s does not move."""
        x, y, number, of = primals
        x_dot, y_dot, number_dot, _ = tangents
        s = _surprisals(x, of)

        def in_labels(dot: jax.Array) -> jax.Array:
            return _present(s, y, h.slope(s, number) * dot)

        def in_number(dot: jax.Array) -> jax.Array:
            return _present(s, y, y * _in_number(h.slope, s, number, dot))

        def in_logits(dot: jax.Array) -> jax.Array:
            s_dot = jax.jvp(lambda x: _surprisals(x, of), (x,), (dot,))[1]
            bend = jax.jvp(lambda s: h.slope(s, number), (s,), (jnp.ones_like(s),))[1]
            in_sum = of.stats.sum(y * h.slope(s, number)) * (_rows._softmax(x, of.stats) * s_dot)
            return in_sum + y * jnp.where(s == 0, 0, bend) * s_dot

        z_dot = moved(s, (y_dot, in_labels), (number_dot, in_number), (x_dot, in_logits))
        return slope(*primals), linear_excess(x, z_dot, of.stats)

    def values(x: jax.Array, number: jax.Array, of: Found) -> jax.Array:
        return each(_surprisals(x, of), number, chances(jax.lax.stop_gradient(x), of), of)

    @jax.custom_jvp
    @jax.jit
    def loss(x: jax.Array, y: jax.Array, number: jax.Array, of: Found) -> jax.Array:
        return of.stats.whole(_sum(written(_times(y, values(x, number, of)))))[..., 0]

    @recomputed
    def in_logits(x: jax.Array, y: jax.Array, number: jax.Array, of: Found, x_dot: jax.Array) -> jax.Array:
        return of.stats.inner(slope(x, y, number, of), x_dot)

    @recomputed
    def in_labels(x: jax.Array, y: jax.Array, number: jax.Array, of: Found, y_dot: jax.Array) -> jax.Array:
        return of.stats.inner(_present(_surprisals(x, of), y, values(x, number, of)), y_dot)

    @recomputed
    def in_number(x: jax.Array, y: jax.Array, number: jax.Array, of: Found, number_dot: jax.Array) -> jax.Array:
        s = _surprisals(x, of)
        return of.stats.inner(_present(s, y, _in_number(h.f, s, number, number_dot)), y)

    @partial(loss.defjvp, symbolic_zeros=True)
    def loss_jvp(primals: tuple, tangents: tuple) -> tuple:
        value, slopes = loss(*primals), (partial(f, *primals) for f in (in_logits, in_labels, in_number))
        return value, moved(value, *zip(tangents, slopes, strict=False))

    return with_stats(loss, found_for_value, found)


focal, poly = _sum_of(FOCAL), _sum_of(POLY)
