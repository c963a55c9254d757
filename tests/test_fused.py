"""Behind a producer: XLA may compute `x * c` twice, rounded and not, and contract it with what follows.

Eager tests cannot see this. Nothing may become NaN, and the result is that of the product, exact or rounded.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import PLAIN, check_accuracy, each
from mpmath import mpf

import stablelogits_jax as sl
from stablelogits_jax.verify._grids import flushed
from stablelogits_jax.verify._measure import derivatives, float64_where_needed
from stablelogits_jax.verify._metric import ulp_error
from stablelogits_jax.verify._spec import truth

PRODUCERS = {"x * 0.7": lambda x: x * 0.7, "x / 3": lambda x: x / 3}
KINDS = [("float32", "x * 0.7"), ("float32", "x / 3"), ("bfloat16", "x / 3")]
kinds = pytest.mark.parametrize(("kind", "producer"), KINDS, ids=str)


def made(spec):
    """The arguments that the producer makes: all that are differentiated, but of a loss the logits alone."""
    return (0,) if any(word in spec.name for word in ("entropy", "focal", "mean")) else spec.wrt


def behind(spec, dtype, producer):
    """The row of the table for x -> f(c x), with c the number that the type has for it."""
    produce = PRODUCERS[producer]
    factor = mpf(float(np.asarray(0.7, dtype))) if producer == "x * 0.7" else 1 / mpf(3)

    def scaled(x):
        return [scaled(a) for a in x] if isinstance(x, list) else x * factor

    def formula(*args):
        return spec.formula(*[scaled(a) if i in made(spec) else a for i, a in enumerate(args)])

    def call(f):
        return lambda *args: spec.call(f)(*[produce(a) if i in made(spec) else a for i, a in enumerate(args)])

    return replace(spec, formula=formula, call=call)


def coarseness(result, dtype):
    """How many ulps of the result's type make one of the producer's: a loss of 16-bit logits is float32."""
    return 2.0 ** (jnp.finfo(result).nmant - jnp.finfo(dtype).nmant)


@kinds
@each(PLAIN)
def test_on_the_grid(spec, kind, producer):
    """One ulp of the product is the producer's: it moves the result by x f'(x), and a slope by x f''(x).

    Where that is the whole result, and where something is flushed or overflows, there are no digits to compare.
    """
    dtype = jnp.dtype(kind)
    args = tuple(a[::3] for a in spec.grid(dtype))
    spec = replace(behind(spec, dtype, producer), grid=lambda dtype: args)
    with float64_where_needed(dtype):
        results = jax.jit(lambda *a: derivatives(spec.ours(), a, spec.wrt, 1))(*map(jnp.asarray, args))
    value, forward, reverse = map(np.asarray, results)
    exact = truth(spec, dtype)
    wide = [a.astype(np.float64) for a in args]
    rows = [a.reshape(len(a), -1) for a in wide]
    x = np.concatenate(
        [np.where(np.isfinite(rows[i]), np.abs(rows[i]), 0) * (i in made(spec)) for i in spec.wrt], axis=1
    )
    tiny, largest = float(jnp.finfo(dtype).tiny), float(jnp.finfo(dtype).max)
    normal = np.all((x == 0) | (x / 4 > tiny), axis=1)
    for i in made(spec):
        if rows[i].shape[1] > 1:
            normal &= ~np.any(flushed(PRODUCERS[producer](rows[i]), dtype), axis=1)

    def check(order, result, moves):
        true = exact[order].rounded()
        size = np.abs(true)
        own = 0 if spec.scale[order] is None else spec.scale[order](true, *wide)
        errors = ulp_error(result, exact[order], np.maximum(own, moves * coarseness(result.dtype, dtype)))
        asked = (normal & (moves <= size * 2.0 ** (jnp.finfo(dtype).nmant - 4)).T & (size < largest / 8).T).T
        at = np.unravel_index(np.argmax(np.where(asked, errors, 0)), errors.shape)
        point = [a[at[0]].tolist() for a in wide]
        wrong = asked[at] and not errors[at] <= spec.budget[order] + 2
        assert not wrong, f"order {order}, {errors[at]} ulp at {point}: got {result[at]}, truth {true[at]}"

    with np.errstate(over="ignore", invalid="ignore"):
        slope, bend = (np.abs(exact[order].rounded()) for order in (1, 2))
        moves = np.einsum("rmk,rk->rm", slope, x)
        check(0, value, moves)
        for result in (forward, reverse):
            check(1, result, np.einsum("rmjk,rk->rmj", bend, x) + slope)  # c is rounded too


PATTERNS = ((1, 1, 0), (1, 1, 1), (1, -1, 0.5), (0.25, 0.5, 0.25), (-1, -1, -2), (-0.5, -1, -0.5), (0, -1, 0))
SIZES = [10.0**n for n in (4, 6, 8, 10, 12, 16, 20, 24, 28, 30)]
ALONG_AXIS = ("logsumexp", "logmeanexp", "z_loss", "distillation_loss")
ROWWISE = [
    spec
    for spec in PLAIN
    if "softmax" in spec.name or spec.name.endswith("_logits") or spec.name in ALONG_AXIS
    if not spec.name.startswith(("bernoulli", "linear"))
]


def ties_and_gaps(spec, dtype):
    """Large logits that are equal or far apart: the answer does not move with the rounding of the product."""
    sizes = [s for s in SIZES if s < float(jnp.finfo(dtype).max) / 2]
    x = np.array([np.multiply(pattern, s) for pattern in PATTERNS for s in sizes]).astype(dtype)
    label = np.arange(len(x), dtype=np.int32) % 3
    if "integer" in spec.name or "log_prob" in spec.name:
        return x, label
    if "cross_entropy" in spec.name or "focal" in spec.name:
        return x, np.eye(3)[label].astype(dtype)
    return (x, x[::-1].copy()) if spec.name in ("kl_from_logits", "distillation_loss") else (x,)


@kinds
@each(ROWWISE)
def test_large_rows(spec, kind, producer):
    check_large_rows(getattr(sl, spec.name), spec, kind, producer)


def check_large_rows(implementation, spec, kind, producer):
    """At 1e4 to 1e30, value, slope and in float32 curvature are those of the limit: one-hot, or uniform over ties."""
    dtype = jnp.dtype(kind)
    grid = ties_and_gaps(spec, dtype)
    with float64_where_needed(dtype):
        result = jax.eval_shape(spec.ours(), *map(jnp.asarray, grid)).dtype

    def in_ulps_of_the_logits(own, true, *args):
        return np.maximum(0 if own is None else own(true, *args), np.abs(true) * coarseness(result, dtype))

    scale = (*(partial(in_ulps_of_the_logits, own) for own in spec.scale[:2]), spec.scale[2])
    large = replace(behind(spec, dtype, producer), grid=lambda dtype: grid, scale=scale)
    check_accuracy(large.call(implementation), large, dtype, order=2 if kind == "float32" else 1)


@pytest.mark.parametrize("temperature", [0.7, 0.1, 3.0, 1e-3])
@pytest.mark.parametrize("size", [1e8, 1e12, 1e20, 1e30])
def test_temperature(size, temperature):
    """softmax(x / T) sums to 1 and is nowhere NaN, for rows that have nothing special about them."""
    x = jnp.asarray(np.random.default_rng(5).normal(size=(64, 33)) * size, jnp.float32)
    p = jax.jit(lambda x: sl.softmax(x / temperature))(x)
    np.testing.assert_allclose(jnp.sum(p, -1), 1, rtol=1e-6)
    loss = jax.jit(lambda x: sl.softmax_cross_entropy_with_integer_labels(x / temperature, jnp.argmax(x, -1)))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(loss(x))))
    assert jnp.all(loss(x) == 0)
    assert jnp.all(gradient(x) == 0)


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_near_the_lowest_number(n):
    """Rows whose top is below minus half of the largest number, behind a product."""
    rng = np.random.default_rng(n)
    softmax = jax.jit(lambda z, c: sl.softmax(z * c))
    log_sum = jax.jit(lambda z, c: sl.logsumexp(z * c, axis=-1))
    for _ in range(60):
        z, c = jnp.asarray(-rng.uniform(2.6, 3.4, n) * 1e38, jnp.float32), jnp.float32(rng.uniform(0.66, 0.99))
        np.testing.assert_allclose(jnp.sum(softmax(z, c)), 1, rtol=1e-6)
        np.testing.assert_allclose(log_sum(z, c), jnp.max(z * c), rtol=1e-6)
