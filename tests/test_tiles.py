"""What the losses on hidden @ kernel keep at their corners, in transformations, in memory and between devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import stablelogits_jax as sl

RNG = np.random.default_rng(0)
T, D, V = 12, 8, 300
H, W = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((T, D), (D, V)))
Y = jnp.asarray(RNG.integers(V, size=T))
SMALL = T * 128 * 4  # three tiles, which overlap


def ours(h, w, y=Y, **options):
    return sl.linear_softmax_cross_entropy(h, w, y, memory_limit=SMALL, **options)


def summed(h, w, y=Y, **options):
    return sl.linear_softmax_cross_entropy_sum(h, w, y, **options)


def rows(h, w, y=Y, **options):
    return sl.softmax_cross_entropy_with_integer_labels(h @ w, y, **options)


# Corners ----------------------------------------------------------------------------------------------------------


def test_absent_classes():
    bias = jnp.where(jnp.arange(V) % 2 == 0, -jnp.inf, 0)
    loss, slope = jax.value_and_grad(lambda h: jnp.sum(ours(h, W, bias=bias, where=Y % 2 == 1)))(H)
    assert jnp.isfinite(loss)
    assert jnp.all(jnp.isfinite(slope))
    lost = ours(H, W, bias=bias)
    np.testing.assert_array_equal(lost == jnp.inf, Y % 2 == 0)
    nothing = lambda h: ours(h, W, bias=jnp.full(V, -jnp.inf))  # noqa: E731
    np.testing.assert_array_equal(nothing(H), jnp.full(T, jnp.inf))
    np.testing.assert_array_equal(jax.grad(lambda h: jnp.sum(nothing(h)))(H), 0)


@pytest.mark.parametrize("f", [ours, summed])
def test_labels_that_are_none(f):
    """NaN in value and in the slope of that token; the others' are what they were."""
    y = Y.at[0].set(V).at[1].set(-1)
    slope = jax.grad(lambda h: jnp.sum(f(h, W, y)))(H)
    assert jnp.all(jnp.isnan(slope[:2]))
    wanted = jax.grad(lambda h: jnp.sum(rows(h, W)))(H)
    np.testing.assert_allclose(slope[2:], wanted[2:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("f", [ours, summed])
def test_ignored_tokens_reach_nothing(f, poison):
    y = Y.at[3:].set(-1)
    total = lambda h, w: jnp.sum(f(h, w, y, ignore_index=-1, label_smoothing=0.1, z_loss=0.1))  # noqa: E731
    got = jax.value_and_grad(total, (0, 1))(H.at[5].set(poison), W)
    wanted = jax.value_and_grad(total, (0, 1))(H, W)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    assert jnp.all(got[1][0][3:] == 0)


@pytest.mark.parametrize("lead", [0.0, 17.0, 40.0, 80.0])
@pytest.mark.parametrize("of_label", [True, False])
def test_sure_tokens(lead, of_label):
    """hidden is the identity, so that the logits are the kernel: value, slope and Hessian-vector product of a row that
    one class leads are those of rows, to the digits of 1 - p."""
    x = jnp.asarray(RNG.integers(-4, 5, (T, V)) / 4, jnp.float32)
    x = x.at[jnp.arange(T), Y if of_label else (Y + 7) % V].set(1.0 + lead)
    t = jnp.asarray(RNG.normal(size=x.shape), jnp.float32)
    eye = jnp.eye(T)
    tiny = float(jnp.finfo(jnp.float32).tiny) * V
    losses = (lambda x: jnp.sum(ours(eye, x)), lambda x: jnp.sum(rows(eye, x)))
    for order in (lambda f: f, jax.grad, lambda f: lambda x: jax.jvp(jax.grad(f), (x,), (t,))[1]):
        got, wanted = (jax.jit(order(f))(x) for f in losses)
        largest = float(jnp.max(jnp.abs(wanted)))  # with a lead of 40 that is a tail, too
        np.testing.assert_allclose(got, wanted, rtol=3e-5, atol=3e-6 * largest + tiny)


# Transformations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [ours, summed])
def test_transformed(f):
    kernels = jnp.stack([W, W[:, ::-1]])
    got, slopes = jax.vmap(jax.value_and_grad(lambda w: jnp.sum(f(H, w))))(kernels)
    for i in range(2):
        wanted, slope = jax.value_and_grad(lambda w: jnp.sum(rows(H, w)))(kernels[i])
        np.testing.assert_allclose(got[i], wanted, rtol=1e-6)
        np.testing.assert_allclose(slopes[i], slope, atol=3e-6)
    value, push = jax.linearize(lambda h: jnp.sum(f(h, W)), H)
    np.testing.assert_allclose(push(H), jnp.vdot(jax.linear_transpose(push, H)(jnp.float32(1))[0], H), rtol=1e-5)
    again = jax.lax.map(lambda h: jax.checkpoint(lambda h: jnp.sum(f(h, W)))(h), jnp.stack([H, H]))
    np.testing.assert_allclose(again, [value, value], rtol=1e-6)
    wanted = jax.jvp(jax.grad(lambda h: jnp.sum(rows(h, W))), (H,), (H,))[1]
    of = lambda h: jnp.sum(f(h, W))  # noqa: E731
    for got in (
        jax.jvp(jax.grad(of), (H,), (H,))[1],
        jax.grad(lambda h: jnp.vdot(jax.grad(of)(h), H))(H),
        jax.grad(lambda h: jax.jvp(of, (h,), (H,))[1])(H),
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


# Memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab_axis", [0, 1])
def test_neither_logits_nor_a_copy_of_the_kernel(vocab_axis):
    """With a tile of 1 MiB, of logits that would take 40 and a kernel that takes 10, sizes that do not divide."""
    t, d, v, mib = 1023, 256, 10_239, 2**20
    shape = (v, d) if vocab_axis == 0 else (d, v)
    args = [jax.ShapeDtypeStruct(s, k) for s, k in (((t, d), "float32"), (shape, "float32"), ((t,), "int32"))]

    def total(h, w, y):
        return jnp.sum(sl.linear_softmax_cross_entropy(h, w, y, vocab_axis=vocab_axis, memory_limit=mib))

    compiled = jax.jit(jax.value_and_grad(total, (0, 1))).lower(*args).compile()
    assert not re.search(rf"f32\[(1,)?{t},{v}\]", compiled.as_text() or "")
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < d * v * 4


# Devices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("form", ["loss", "sum", "statistics"])
def test_split_vocabulary(form, check):
    """Value and slopes are those of the whole, and devices talk three times at most, and not within a loop."""
    bias, weights, w = (jnp.asarray(RNG.random(n), jnp.float32) for n in (V, V, T))
    options = {"label_smoothing": 0.1, "z_loss": 0.01}

    def f(h, k, b, y, weights, w, **split):
        if form == "sum":
            return sl.linear_softmax_cross_entropy_sum(h, k, y, w, bias=b, weights=weights, **options, **split)
        if form == "loss":
            return sl.linear_softmax_cross_entropy(h, k, y, bias=b, weights=weights, **options, **split) * w
        of = sl.linear_token_statistics(h, k, y, bias=b, **split)
        return (of.log_prob + of.log_normalizer + of.entropy) * w

    mesh = Mesh(np.array(jax.devices()[:2]), "model")
    specs = (P(), P(None, "model"), P("model"), P(), P("model"), P())
    local = lambda *args: f(*args, axis_name="model", memory_limit=T * 128 * 4)  # noqa: E731
    split = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=check)
    both = [
        jax.jit(jax.value_and_grad(lambda h, k, b, g=g: jnp.sum(g(h, k, b, Y, weights, w)), (0, 1, 2)))
        for g in (split, f)
    ]
    got, wanted = (g(H, W, bias) for g in both)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), got, wanted)
    text = both[0].lower(H, W, bias).compile().as_text() or ""
    assert "all-gather" not in text
    loops = set(re.findall(r"body=%?([\w.\-]+)", text))
    talks = 0
    for computation in re.split(r"\n(?=%|ENTRY)", text):
        found = len(re.findall(r"= .*\ball-reduce(?:-start)?\(", computation))
        name = re.match(r"%?([\w.\-]+)", computation)
        assert not (found and name and name[1] in loops)
        talks += found
    assert talks <= (3 if check else 4)  # unchecked, the sum's transpose is another sum
