"""Losses on hidden @ kernel: transformed, and given what is easily forgotten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import stablelogits_jax as sl
from stablelogits_jax.verify._measure import float64_where_needed

IGNORED = -1
# Transformations, which see loops over blocks and tiles, and a branch around a block of which no token is kept ------


def close(got, wanted, tolerance=1e-6):
    """To so much of the largest."""
    got, wanted = (np.asarray(a, np.float64) for a in (got, wanted))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.max(np.abs(wanted), initial=0))


SMALL = {"ignore_index": IGNORED, "memory_limit": 17 * 300 * 4}


@pytest.fixture(scope="module")
def heads():
    rng = np.random.default_rng(8)
    hidden, kernels = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((34, 5), (2, 5, 300)))
    return hidden, kernels, jnp.where(jnp.arange(34) < 16, IGNORED, jnp.asarray(rng.integers(300, size=34)))


def _mean(hidden, kernel, labels):
    return jnp.sum(sl.linear_softmax_cross_entropy(hidden, kernel, labels, **SMALL)) / 18


def _sum(hidden, kernel, labels):
    return sl.linear_softmax_cross_entropy_sum(hidden, kernel, labels, jnp.full(34, 1 / 18), **SMALL)


@pytest.mark.parametrize("f", [_mean, _sum])
def test_transformed(f, heads):
    hidden, kernels, labels = heads
    slopes = jax.grad(f, (0, 1))
    one_by_one = [jax.jit(slopes)(hidden, kernel, labels) for kernel in kernels]
    wanted = [jnp.stack(a) for a in zip(*one_by_one, strict=True)]

    def transposed(hidden, kernel, labels):
        _, linear = jax.linearize(lambda *moving: f(*moving, labels), hidden, kernel)
        return jax.linear_transpose(linear, hidden, kernel)(jnp.ones(()))

    def in_scan(hidden, kernels, labels):
        """Of hidden the sum over the kernels, as of layers."""
        again = jax.checkpoint(f)
        of_all = lambda h, w: jnp.sum(jax.lax.map(lambda kernel: again(h, kernel, labels), w))  # noqa: E731
        return jax.grad(of_all, (0, 1))(hidden, kernels)

    batched = jax.jit(jax.vmap(slopes, (None, 0, None)))(hidden, kernels, labels)
    one = jax.jit(transposed)(hidden, kernels[1], labels)
    of_hidden, of_kernels = jax.jit(in_scan)(hidden, kernels, labels)
    for got, true in (
        *zip(batched, wanted, strict=True),
        *zip(one, one_by_one[1], strict=True),
        (of_hidden, jnp.sum(wanted[0], 0)),
        (of_kernels, wanted[1]),
    ):
        close(got, true)


@pytest.mark.parametrize("f", [_mean, _sum])
def test_exported(f, heads):
    """For machines that are not here too."""
    hidden, kernels, labels = heads
    given = hidden, kernels[0], labels
    slopes = jax.jit(jax.grad(f, (0, 1)))
    exported = export.export(slopes, platforms=["cpu", "cuda", "tpu"])(*given)
    for got, wanted in zip(exported.call(*given), slopes(*given), strict=True):
        close(got, wanted)


@pytest.mark.parametrize(
    ("hidden", "kernel", "argument"), [("2, n, 4", "4, 9", "hidden"), ("2, 3, 4", "4, n", "kernel")]
)
def test_symbols_as_sizes_are_refused_by_name(hidden, kernel, argument):
    """As tiles are cut for so many tokens and classes; of the features any number will do."""

    def exported(f, hidden, kernel):
        scope = export.SymbolicScope()
        h, w = (jax.ShapeDtypeStruct(export.symbolic_shape(s, scope=scope), "float32") for s in (hidden, kernel))
        return export.export(jax.jit(f))(h, w, jax.ShapeDtypeStruct(h.shape[:-1], "int32"))

    for f in (sl.linear_softmax_cross_entropy, sl.linear_softmax_cross_entropy_sum, sl.linear_token_statistics):
        with pytest.raises(ValueError, match=f"{f.__name__}: {argument}"):
            exported(f, hidden, kernel)
        exported(f, "2, 3, n", "n, 9")


# What is easily forgotten -----------------------------------------------------------------------------------------


def of_rows(hidden, kernel, labels, token_weights=None):
    """The materialised loss, by numbers as wide as the wider of both."""
    wide = max(hidden.dtype, kernel.dtype, jnp.dtype("float32"), key=lambda dtype: dtype.itemsize)
    x = jnp.matmul(hidden.astype(wide), kernel.astype(wide), precision="highest")
    return jnp.sum(sl.softmax_cross_entropy_with_integer_labels(x, labels))


def of_tokens(hidden, kernel, labels):
    return jnp.sum(sl.linear_softmax_cross_entropy(hidden, kernel, labels))


def of_all(hidden, kernel, labels):
    return sl.linear_softmax_cross_entropy_sum(hidden, kernel, labels, jnp.ones(labels.shape, hidden.dtype))


def of_statistics(hidden, kernel, labels):
    return -jnp.sum(sl.linear_token_statistics(hidden, kernel, labels).log_prob)


EACH = pytest.mark.parametrize("f", [of_tokens, of_all, of_statistics])


@EACH
@pytest.mark.parametrize("dtype", ["uint8", "uint32", "int8"])
def test_types_of_labels(f, dtype, heads):
    hidden, (kernel, _), _ = heads
    labels = jnp.arange(34, dtype=dtype)
    close(f(hidden, kernel, labels), of_rows(hidden, kernel, labels))
    for beyond in (300, 2**31, 2**32 - 2) if dtype == "uint32" else ():
        assert np.isnan(f(hidden, kernel, labels.at[3].set(beyond)))


@EACH
@pytest.mark.parametrize(
    ("of_hidden", "of_kernel"),
    [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "bfloat16"), ("float64", "float32")],
)
def test_two_types(f, of_hidden, of_kernel, heads):
    """The product is that of numbers as wide as the wider: what the narrower does not hold is not lost."""
    with float64_where_needed(of_hidden):
        given = [
            jnp.asarray(np.asarray(a), t) for a, t in zip((heads[0], heads[1][0]), (of_hidden, of_kernel), strict=True)
        ]
        labels = jnp.arange(34)
        turn = jnp.cos(jnp.arange(given[1].size, dtype=of_kernel)).reshape(given[1].shape)

        def orders(f):
            of_kernel = lambda w: f(given[0], w, labels)  # noqa: E731
            return jax.jit(lambda w: (of_kernel(w), *jax.jvp(jax.grad(of_kernel), (w,), (turn,))))(given[1])

        for ours, wanted in zip(orders(f), orders(of_rows), strict=True):
            assert ours.dtype == wanted.dtype
            close(ours, wanted, {"bfloat16": 2.0**-8, "float32": 2e-6, "float64": 1e-13}[ours.dtype.name])


@EACH
def test_no_tokens_and_no_features(f):
    for tokens, features in ((0, 3), (2, 0), (0, 0)):
        hidden, labels = jnp.ones((tokens, features)), jnp.zeros(tokens, int)
        for dtype in ("float32", "bfloat16"):
            kernel = jnp.ones((features, 4), dtype)
            slopes = lambda h, w: jax.value_and_grad(f, (0, 1))(h, w, labels)  # noqa: E731, B023
            moved = jax.jit(lambda h, w: jax.jvp(slopes, (h, w), (h * 0, w)))(hidden, kernel)  # noqa: B023
            (loss, slopes), (_, (_, turned)) = moved
            close(loss, tokens * np.log(4))
            assert [np.asarray(a, np.float64).tolist() for a in (*slopes, turned)] == [
                np.zeros(a.shape).tolist() for a in (hidden, kernel, kernel)
            ]


def test_nan_reaches_every_statistic():
    hidden = jnp.array([[jnp.nan, 1.0], [1.0, 1.0]])
    for got in sl.linear_token_statistics(hidden, jnp.ones((2, 3)), jnp.array([1, 1])):
        assert np.isnan(got).tolist() == [True, False]


@pytest.mark.parametrize("f", [sl.linear_softmax_cross_entropy, sl.linear_softmax_cross_entropy_sum])
def test_z_loss_of_an_infinite_logit(f):
    """As of rows: an infinite slope in that class, and in z, also at 0; none in the others."""
    hidden, kernel, labels = jnp.zeros((2, 3)), jnp.zeros((3, 4)), jnp.array([0, 1])
    bias = jnp.array([0.0, jnp.inf, 0.0, -jnp.inf])

    def ours(bias, z):
        return jnp.sum(f(hidden, kernel, labels, bias=bias, z_loss=z))

    def rows(bias, z):
        return jnp.sum(sl.softmax_cross_entropy_with_integer_labels(hidden @ kernel + bias[None], labels, z_loss=z))

    for z in (0.0, 0.5):
        got, wanted = (jax.jit(jax.value_and_grad(g, (0, 1)))(bias, z) for g in (ours, rows))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(a, b)
            assert not np.any(np.isnan(a))
