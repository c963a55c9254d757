"""Behind a producer: XLA may compute `x * c` twice, rounded and not, and contract it with what follows.

Eager tests cannot see this. Nothing may become NaN, and the result is that of the product, exact or rounded.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import PLAIN, check_accuracy, each
from mpmath import mpf

import stablelogits_jax as sl
from stablelogits_jax.verify._measure import derivatives, float64_where_needed
from stablelogits_jax.verify._metric import ulp_error
from stablelogits_jax.verify._spec import truth

PRODUCERS = {"x * 0.7": lambda x: x * 0.7, "x / 3": lambda x: x / 3}
KINDS = [
    ("float64", "x * 0.7"),
    ("float32", "x * 0.7"),
    ("float32", "x / 3"),
    ("bfloat16", "x / 3"),
    ("float16", "x * 0.7"),
]
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


@kinds
@each(PLAIN)
def test_on_the_grid(spec, kind, producer):
    """One ulp of the product is the producer's: it moves the result by x f'(x), and a slope by x f''(x).

    Where that is the whole result, and where the product is flushed, there are no digits to compare.
    """
    dtype = jnp.dtype(kind)
    with float64_where_needed(dtype):
        spec = behind(spec, dtype, producer)
        args = spec.grid(dtype)
        results = jax.jit(lambda *a: derivatives(spec.ours(), a, spec.wrt))(*map(jnp.asarray, args))
    value, forward, reverse, curvature = map(np.asarray, results)
    exact = truth(spec, dtype)
    wide = [a.astype(np.float64) for a in args]
    moving = [np.abs(wide[i]) * (i in made(spec)) for i in spec.wrt]
    x = np.nan_to_num(np.concatenate([a.reshape(len(a), -1) for a in moving], axis=1), posinf=0)
    size = [np.abs(tensor.rounded()) for tensor in exact]
    with np.errstate(over="ignore", invalid="ignore"):
        moves = np.einsum("rmk,rk->rm", size[1], x), np.einsum("rmjk,rk->rmj", size[2], x)
        scales = [0 if s is None else s(e.rounded(), *wide) for s, e in zip(spec.scale[:2], exact, strict=False)]
    normal = np.all((x == 0) | (x / 4 > float(jnp.finfo(dtype).tiny)), axis=1, keepdims=True)
    conditioned = normal & (moves[0] < size[0] * 2.0 ** (jnp.finfo(dtype).nmant - 4))
    for order, result in ((0, value), (1, forward), (1, reverse)):
        errors = ulp_error(result, exact[order], np.maximum(scales[order], np.nan_to_num(moves[order])))
        asked = conditioned.reshape(conditioned.shape + (1,) * order)
        worst = np.max(np.where(asked, errors, 0))
        assert worst <= spec.budget[order] + 2, f"{spec}: order {order}, {worst} ulp"
    finite = np.isfinite(size[2]) & (size[2] < float(jnp.finfo(dtype).max)) & conditioned[:, :, None, None]
    assert not np.any(np.isnan(curvature.astype(np.float64)) & finite)


ALONG_AXIS = ("logsumexp", "logmeanexp", "z_loss")
PATTERNS = ((1, 1, 0), (1, 1, 1), (1, -1, 0.5), (0.25, 0.5, 0.25), (-1, -1, -2), (-0.5, -1, -0.5), (0, -1, 0))
SIZES = [10.0**n for n in (4, 6, 8, 10, 12, 16, 20, 24, 28, 30)]


def ties_and_gaps(spec, dtype):
    """Large logits that are equal or far apart: the answer does not move with the rounding of the product."""
    sizes = [s for s in SIZES if s < float(jnp.finfo(dtype).max) / 2]
    x = np.array([np.multiply(pattern, s) for pattern in PATTERNS for s in sizes]).astype(dtype)
    label = np.arange(len(x), dtype=np.int32) % 3
    if "integer" in spec.name or "log_prob" in spec.name:
        return x, label
    if "cross_entropy" in spec.name:
        return x, np.eye(3)[label].astype(dtype)
    return (x, x[::-1].copy()) if spec.name == "kl_from_logits" else (x,)


ROWWISE = [spec for spec in PLAIN if "softmax" in spec.name or "logits" in spec.name or spec.name in ALONG_AXIS]


@kinds
@each(ROWWISE)
def test_large_rows(spec, kind, producer):
    """At 1e4 to 1e30, value, slope and curvature are those of the limit: one-hot, or uniform over ties."""
    dtype = jnp.dtype(kind)
    large = replace(behind(spec, dtype, producer), grid=lambda dtype: ties_and_gaps(spec, dtype))
    check_accuracy(large.ours(), large, dtype)


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
