"""Losses on hidden @ kernel with the classes split over two devices: those of the whole, in a few messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import AS_COMMITTED
from hlo import kind, loops, messages
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import stablelogits_jax as sl

T, D, V, IGNORED = 130, 5, 600, -1  # 300 classes each, in tiles that overlap, and two blocks of tokens
RNG = np.random.default_rng(6)
MOVING = {
    "bias": RNG.normal(size=V).astype(np.float32),
    "hidden": RNG.normal(size=(T, D)).astype(np.float32),
    "kernel": RNG.normal(size=(D, V)).astype(np.float32),
    "token_weights": RNG.uniform(0.5, 2, T).astype(np.float32),
    "weights": RNG.uniform(0.5, 2, V).astype(np.float32),
}
LABELS = np.where(np.arange(T) < 60, RNG.integers(V, size=T), IGNORED)
OUT_OF_RANGE = np.where(np.arange(T) == 4, V, np.where(np.arange(T) == 9, -2, LABELS))
SPLIT = {"bias": P("model"), "hidden": P(), "kernel": P(None, "model"), "token_weights": P(), "weights": P("model")}
TILES = {"ignore_index": IGNORED, "memory_limit": 128 * 128 * 4}
OPTIONS = {"label_smoothing": 0.1, "z_loss": 0.01}


def tokens(m, labels, **options):
    return sl.linear_softmax_cross_entropy(m["hidden"], m["kernel"], labels, bias=m["bias"], **TILES, **options)


def plain(m, labels, **split):
    return jnp.sum(m["token_weights"] * tokens(m, labels, **split))


def every_option(m, labels, **split):
    return jnp.sum(m["token_weights"] * tokens(m, labels, weights=m["weights"], **OPTIONS, **split))


def in_one(m, labels, **split):
    first = m["hidden"], m["kernel"], labels, m["token_weights"]
    options = {"bias": m["bias"], "weights": m["weights"]} | OPTIONS | TILES
    return sl.linear_softmax_cross_entropy_sum(*first, **options, **split)


def statistics(m, labels, **split):
    of = sl.linear_token_statistics(m["hidden"], m["kernel"], labels, bias=m["bias"], **TILES, **split)
    return jnp.sum(m["token_weights"] * (of.log_prob + 2 * of.log_normalizer + 3 * of.entropy))


def over_two(f, check):
    mesh = Mesh(np.array(jax.devices()[:2]), "model")
    local = lambda m, labels: f(m, labels, axis_name="model")  # noqa: E731
    return jax.shard_map(local, mesh=mesh, in_specs=(SPLIT, P()), out_specs=P(), check_vma=check)


@pytest.mark.parametrize("f", [plain, every_option, in_one, statistics])
def test_split(f):
    """Devices talk of a maximum and of sums, and for the slopes of one sum more, never in a loop. If it is not checked
    what is alike on all of them, the label's weight is asked for by itself."""
    whole = jax.jit(jax.value_and_grad(f))
    for check in (True, False):
        ours = jax.jit(jax.value_and_grad(over_two(f, check))).lower(MOVING, LABELS).compile()
        text = ours.as_text()
        assert text is not None
        talk = [kind(message) for message in messages(text)]
        assert set(talk) == {"all-reduce"}
        if AS_COMMITTED:  # older compilers make an all-reduce of each array
            assert len(talk) <= 3 + (not check and f in (every_option, in_one))
        assert messages(text, loops(text)) == []
        for labels in (LABELS, OUT_OF_RANGE):
            got, wanted = ours(MOVING, labels), whole(MOVING, labels)
            for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
                size = np.max(np.abs(b), where=np.isfinite(b), initial=0)
                np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6 * size, err_msg=str(path))


def test_talk_in_a_loop_is_seen():
    def talkative(m, labels, axis_name):
        return jax.lax.fori_loop(0, len(labels), lambda i, x: x + jax.lax.psum(m["bias"][i], axis_name), 0.0)

    text = jax.jit(over_two(talkative, True)).lower(MOVING, LABELS).compile().as_text()
    assert text is not None
    assert [kind(message) for message in messages(text, loops(text))] == ["all-reduce"]


@pytest.mark.parametrize("f", [sl.distillation_loss, lambda x, t: sl.kl_from_logits(t, x), sl.kl_from_logits])
def test_a_teacher_that_all_devices_have(f):
    """Its gradient is the sum over the devices, each with examples of its own."""
    mesh, rng = Mesh(np.array(jax.devices()[:2]), "data"), np.random.default_rng(3)
    x, t = (jnp.asarray(rng.normal(size=(n, 6)), jnp.float32) for n in (4, 2))

    def split(t):
        return jnp.sum(jax.shard_map(f, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))(x, t))

    def whole(t):
        return jnp.sum(f(x, jnp.concatenate([t, t])))

    for ours, wanted in ((jax.grad(split), jax.grad(whole)), (jax.hessian(split), jax.hessian(whole))):
        np.testing.assert_allclose(jax.jit(ours)(t), jax.jit(wanted)(t), rtol=1e-5, atol=1e-6)
