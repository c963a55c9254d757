"""Rows of 1, 2, 10 and 1000 classes, as they come: their differences are rounded, unlike those of the grids."""

from dataclasses import replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close, check_accuracy, spec_of
from mpmath import workprec

import stablelogits_jax as sl
from stablelogits_jax.verify._grids import integers
from stablelogits_jax.verify._oracle import along
from stablelogits_jax.verify._scales import tail

SCALARS = ("logsumexp", "logmeanexp", "log_prob_from_logits", "softmax_cross_entropy_with_integer_labels")
ROWWISE = (*SCALARS, "softmax", "log_softmax", "softmax_cross_entropy", "entropy_from_logits")


def rough(name, classes):
    """The row of the table with other rows of logits. As they are rounded, so is exp(-d): see `tail`."""

    def larger(scale, truth, *args):
        return np.maximum(np.where(np.abs(truth) < 1, tail(truth), 0), 0 if scale is None else scale(truth, *args))

    spec = spec_of(name)

    def grid(dtype):
        rows = cast(Any, spec.grid)(dtype, classes=classes, exact=False)
        return tuple(a[:: 1 if classes < 100 else 6] for a in rows)

    return replace(spec, grid=grid, scale=tuple(partial(larger, scale) for scale in spec.scale))


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(1, "float32"), (2, "float32"), (10, "float32"), (10, "bfloat16")],
    indirect=["dtype"],
)
@pytest.mark.parametrize("name", ROWWISE)
def test_short(name, dtype, classes):
    spec = rough(name, classes)
    check_accuracy(spec.ours(), spec, dtype, order=1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"], indirect=True)
@pytest.mark.parametrize("name", ROWWISE)
def test_long(name, dtype):
    spec = rough(name, 1000)
    check_accuracy(spec.ours(), spec, dtype, order=0)


@pytest.mark.parametrize("name", SCALARS)
def test_slope_of_long(name, dtype):
    """In the largest class, the smallest and the label's."""
    spec = rough(name, 1000)
    x, *labels = (a[:8] for a in spec.grid(dtype))
    slope = jax.jit(jax.grad(lambda x: jnp.sum(spec.ours()(x, *map(jnp.asarray, labels)))))(jnp.asarray(x))
    for i in range(len(x)):
        example = (x[i].astype(np.float64).tolist(), *(a[i].item() for a in labels))
        for j in (np.argmax(x[i]).item(), np.argmin(x[i]).item(), integers(x)[i].item()):
            with workprec(2400):
                truth = along(spec.formula, example, (0,), {j: 1}, 1)[1].item()
            assert_close(slope[i, j], truth, spec.budget[1], f"{name}: slope", tail(np.float64(truth)))


@pytest.mark.parametrize("classes", [100, 500, 1000, 1500, 2000, 4000])
@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_sums_of_terms_that_are_alike(classes, spread):
    """Added one after another they would be rounded alike: an entropy, whose slope is small beside its terms, and the
    negatives of a query."""
    x = np.float32(spread) * np.random.default_rng(0).normal(size=classes).astype(np.float32)
    p = np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum()
    entropy = -np.sum(p * np.log(p))
    value, slope = jax.jit(jax.value_and_grad(sl.entropy_from_logits))(x)
    np.testing.assert_allclose(value, entropy, rtol=3e-7)
    np.testing.assert_allclose(slope, -p * (np.log(p) + entropy), rtol=1e-3, atol=1e-10 + 1e-7 * spread)
    keys = jnp.asarray(x[:, None])
    z = 10 * x.astype(np.float64) * x[0] - 10
    wanted = np.log1p(np.exp(z)).sum() - z[0]
    got = jax.jit(sl.sigmoid_contrastive_loss)(keys, keys)[0]
    np.testing.assert_allclose(got, wanted, rtol=5e-7)


@pytest.mark.parametrize("axis", [(1, 3), (-3, -1), (3, 1), 0, 2, -1, None], ids=str)
@pytest.mark.parametrize("name", ["logsumexp", "logmeanexp", "softmax", "log_softmax", "entropy_from_logits"])
def test_axis(name, axis):
    """As after moving the axes to the end and making one of them."""
    f = getattr(sl, name)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5, 6)) * 10, jnp.float32)
    axes = tuple(range(4)) if axis is None else tuple(np.atleast_1d(axis))
    moved = jnp.moveaxis(x, axes, range(-len(axes), 0))
    batch = moved.shape[: 4 - len(axes)]
    got, wanted = f(x, axis=axis), f(moved.reshape(*batch, -1), axis=-1)
    if wanted.ndim > len(batch):
        wanted = jnp.moveaxis(wanted.reshape(moved.shape), range(-len(axes), 0), axes)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
