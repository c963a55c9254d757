"""Pairs of embeddings: over a mesh axis the same losses and gradients as of the whole batch; masked pairs are left
out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import stablelogits_jax as sl

RNG = np.random.default_rng(11)
QUERIES, KEYS = (jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32) for _ in range(2))
KEEP = jnp.array([True, False, True, True, False, True])
LOSSES = [partial(sl.info_nce_loss, temperature=0.5), partial(sl.sigmoid_contrastive_loss, scale=2.0, bias=-1.0)]
each = pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.func.__name__)


def total(loss, weights):
    return lambda *args: jnp.sum(loss(*args) * weights)


@each
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "names", "axis_name"),
    [((2,), "batch", "batch"), ((2,), "batch", ("batch",)), ((1, 2), ("hosts", "devices"), ("hosts", "devices"))],
)
def test_split_over_a_mesh(loss, masked, shape, names, axis_name):
    """Value and gradient, with another weight for each loss: those of keys and options come back from all devices."""
    weights, options = jnp.arange(1.0, 7.0), {name: jnp.float32(o) for name, o in loss.keywords.items()}
    mesh, spread = Mesh(np.array(jax.devices()[:2]).reshape(shape), names), PartitionSpec(names)

    def whole(q, k, options, where):
        return loss(q, k, **options, where=where if masked else None)

    def split(q, k, options, where):
        local = partial(loss, axis_name=axis_name)
        f = lambda q, k, options, where: local(q, k, **options, where=where if masked else None)  # noqa: E731
        in_specs = spread, spread, PartitionSpec(), spread
        return jax.shard_map(f, mesh=mesh, in_specs=in_specs, out_specs=spread)(q, k, options, where)

    got, wanted = (
        jax.jit(jax.value_and_grad(total(partial(f, where=KEEP), weights), (0, 1, 2)))(QUERIES, KEYS, options)
        for f in (split, whole)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@each
def test_masked_pairs_are_left_out(loss):
    """As of the batch without them, whatever they hold, in value and in both gradients."""
    poison = jnp.where(KEEP[:, None], QUERIES, jnp.nan), jnp.where(KEEP[:, None], KEYS, jnp.inf)
    got = loss(*poison, where=KEEP)
    np.testing.assert_array_equal(got[~KEEP], 0)
    np.testing.assert_allclose(got[KEEP], loss(QUERIES[KEEP], KEYS[KEEP]), rtol=1e-6)
    slopes = jax.grad(lambda q, k: jnp.sum(loss(q, k, where=KEEP)), (0, 1))(*poison)
    wanted = jax.grad(lambda q, k: jnp.sum(loss(q, k)), (0, 1))(QUERIES[KEEP], KEYS[KEEP])
    for slope, of_kept in zip(slopes, wanted, strict=True):
        np.testing.assert_array_equal(slope[~KEEP], 0)
        np.testing.assert_allclose(slope[KEEP], of_kept, rtol=1e-5, atol=1e-6)


@each
def test_nan_reaches(loss):
    """A NaN in a key makes every query's loss NaN: it is a negative of each."""
    assert jnp.all(jnp.isnan(loss(QUERIES, KEYS.at[1, 2].set(jnp.nan))))


def test_losses_of_plain_formulas():
    x = np.asarray(QUERIES, np.float64) @ np.asarray(KEYS, np.float64).T
    sign = 2 * np.eye(6) - 1
    nce = np.log(np.sum(np.exp(x / 0.5), -1)) - np.diag(x) / 0.5
    pairs = np.sum(np.log1p(np.exp(-sign * (2 * x - 1))), -1)
    for loss, wanted in zip(LOSSES, (nce, pairs), strict=True):
        np.testing.assert_allclose(loss(QUERIES, KEYS), wanted, rtol=2e-6)


def test_two_pairs_are_sigmoids():
    """With one negative, InfoNCE is the softplus of the difference of the two products."""
    x = 2 * QUERIES[:2] @ KEYS[:2].T
    wanted = sl.softplus(jnp.array([x[0, 1] - x[0, 0], x[1, 0] - x[1, 1]]))
    np.testing.assert_allclose(LOSSES[0](QUERIES[:2], KEYS[:2]), wanted, rtol=1e-5)


LOSS, FAR = sl.sigmoid_contrastive_loss, jnp.array([[1e30, 0.0], [0.0, 1e30]])
BY_BIAS = 2 * np.log1p(np.exp(1)) + 2 * np.log1p(np.exp(-1))


def test_info_nce_of_infinite_products():
    """Those of +inf share the probability, whatever the others are; an own one of -inf is lost."""
    for keys, wanted in (([1e30, 1], 0), ([1e30, 1e30], np.log(2)), ([1, 1e30], np.inf), ([-1e30, 1], np.inf)):
        loss = sl.info_nce_loss(jnp.array([[1e30], [0.0]]), jnp.array(keys, jnp.float32)[:, None])
        np.testing.assert_allclose(loss[0], wanted, rtol=1e-6)


def test_products_that_overflow():
    """They count for nothing at a scale of 0, and in no slope of a pair that is told well."""

    def loss(scale, side):
        return jnp.sum(LOSS(side * FAR, FAR, scale=scale, bias=-1.0))

    for scale, side, value, slope in ((0.0, 1.0, BY_BIAS, -np.inf), (0.5, 1.0, 2 * np.log1p(np.exp(-1)), 0.0)):
        got, *slopes = jax.jit(lambda *of: (loss(*of), *jax.grad(loss, (0, 1))(*of)))(scale, side)
        np.testing.assert_allclose(got, value, rtol=1e-6)
        np.testing.assert_array_equal(slopes, [slope, 0])
        assert not np.isnan(jax.jit(jax.hessian(loss))(scale, side))
    assert np.isnan(loss(0.0, jnp.nan))
    assert loss(0.5, -1.0) == jnp.inf
