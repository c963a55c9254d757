"""Losses on hidden @ kernel against those of rows on the logits all at once, which the oracle knows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl
from stablelogits_jax._checks import compute_type
from stablelogits_jax.verify._measure import float64_where_needed

SMALLEST = 128 * 128 * 4  # bytes of the smallest tile's logits, of 128 tokens and classes
RNG = np.random.default_rng(12)


def logits(hidden, kernel, bias=None, vocab_axis=-1):
    wide = compute_type(hidden.dtype)
    z = hidden.astype(wide) @ jnp.moveaxis(kernel.astype(wide), vocab_axis, -1)
    return z if bias is None else z + jnp.broadcast_to(bias.astype(wide), z.shape)


def of_rows(hidden, kernel, labels, *, bias=None, vocab_axis=-1, **options):
    return sl.softmax_cross_entropy_with_integer_labels(logits(hidden, kernel, bias, vocab_axis), labels, **options)


def statistics_of_rows(hidden, kernel, labels, *, bias=None, vocab_axis=-1, soft_cap=None, where=None):
    z = logits(hidden, kernel, bias, vocab_axis)
    z = z if soft_cap is None else soft_cap * jnp.tanh(z / soft_cap)
    found = sl.log_prob_from_logits(z, labels), sl.logsumexp(z, axis=-1), sl.entropy_from_logits(z)
    return jnp.stack([a if where is None else jnp.where(where, a, 0) for a in found])


def statistics(*args, **options):
    return jnp.stack(sl.linear_token_statistics(*args, **options))


def summed(f):
    """The sum of a loss of tokens with weights, and no NaN of a loss that is infinite and weighs nothing."""

    def total(hidden, kernel, labels, token_weights, **options):
        loss = f(hidden, kernel, labels, **options)
        w = token_weights[(None,) * (loss.ndim - token_weights.ndim)]
        return jnp.sum(jnp.where(w == 0, 0, w * loss))

    return total


# From ours to what it is by way of rows, each with token weights as the fourth argument.
FORMS = {
    "tokens": (summed(sl.linear_softmax_cross_entropy), summed(of_rows)),
    "sum": (sl.linear_softmax_cross_entropy_sum, summed(of_rows)),
    "statistics": (summed(statistics), summed(statistics_of_rows)),
}


def close(got, wanted, tolerance, what=""):
    """Beside the largest number of an array: a slope is a sum of terms of either sign."""
    got, wanted = (np.asarray(a, np.float64) for a in (got, wanted))
    assert got.shape == wanted.shape
    size = np.max(np.abs(wanted), initial=0)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * size, err_msg=what)


ALL = ("bias", "weights", "soft_cap", "z_loss", "label_smoothing")
CASES = [  # the form, the type of hidden and of the kernel, the batch, classes, their axis, options, bytes of a tile
    ("tokens", "float32", "float32", (), 1, -1, ALL, None),
    ("sum", "float32", "float32", (2, 3), 2, 0, (), None),
    ("tokens", "bfloat16", "float32", (2, 3), 127, -1, ("weights",), None),
    ("tokens", "float32", "bfloat16", (130,), 129, 0, ALL, SMALLEST),
    ("statistics", "float16", "float16", (130,), 777, -1, ("bias", "soft_cap"), SMALLEST),
    ("tokens", "float16", "float16", (7,), 1153, 0, ("z_loss",), 7 * 128 * 4),
    ("tokens", "float64", "float64", (130,), 777, -1, ("bias", "label_smoothing"), 2 * SMALLEST),
    ("sum", "bfloat16", "bfloat16", (130,), 1153, 0, ALL, None),
    ("sum", "float64", "float64", (7,), 1153, -1, ("soft_cap", "weights"), None),
]
EXACT = {"float64": 2e-14, "float32": 4e-6}  # some ulps, and sums of 130 tokens and 1153 classes in another order
ROUNDED = {"bfloat16": 1.01 * 2**-8, "float16": 1.01 * 2**-11} | EXACT  # once, to the type of what moves


@pytest.mark.parametrize(("form", "dtype", "kind", "shape", "classes", "axis", "names", "limit"), CASES)
def test_value_and_slopes(form, dtype, kind, shape, classes, axis, names, limit):
    """Of sizes that tiles do not divide, with a weight of its own for each token. Products are exact in every type."""
    ours, rows = FORMS[form]
    with float64_where_needed(dtype):
        wide = compute_type(jnp.dtype(dtype))

        def quarters(kind, *size):
            return jnp.asarray(RNG.integers(-6, 7, size) / 4, kind)

        def uniform(low, high, *size):
            return jnp.asarray(RNG.uniform(low, high, size), wide)

        labels = jnp.asarray(RNG.integers(classes, size=shape))
        moving = {
            "hidden": quarters(dtype, *shape, 5),
            "kernel": quarters(kind, *((classes, 5) if axis == 0 else (5, classes))),
            "token_weights": uniform(0.5, 2, *shape),
        }
        options = {
            "bias": quarters(kind, classes),
            "weights": uniform(0.5, 2, classes),
            "soft_cap": uniform(4, 5),
            "z_loss": uniform(0, 0.01, *shape),
            "label_smoothing": uniform(0, 0.25, *shape),
        }

        def total(moving, f, **memory):
            given = {name: moving[name] for name in names}
            return f(
                *(moving[n] for n in ("hidden", "kernel")),
                labels,
                moving["token_weights"],
                vocab_axis=axis,
                **given,
                **memory,
            )

        moving |= {name: options[name] for name in names}
        got, slopes = jax.jit(jax.value_and_grad(partial(total, f=ours, memory_limit=limit)))(moving)
        widened = jax.tree.map(lambda a: a.astype(wide), moving)
        wanted, true = jax.jit(jax.value_and_grad(partial(total, f=rows)))(widened)
        assert got.dtype == wide
        close(got, wanted, EXACT[wide.name])
        for name, slope in slopes.items():
            assert slope.dtype == moving[name].dtype
            close(slope, true[name], ROUNDED[slope.dtype.name], name)
