"""Logits that devices hold parts of, under plain `jit`: they talk of numbers of rows, never of logits."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import messages
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import stablelogits_jax as sl

B, N, PARTS = 16, 8192, 8
RNG = np.random.default_rng(0)
X, OTHER = (RNG.normal(size=(B, N)).astype(np.float32) for _ in range(2))
SHARES = RNG.dirichlet(np.ones(N), B).astype(np.float32)
LABELS = RNG.integers(N, size=B)
KEEP = RNG.random((B, N)) < 0.8
WEIGHTS = RNG.random(N).astype(np.float32)
MESHES = {"classes": (1, 8), "examples": (8, 1), "both": (2, 4)}  # devices that share the examples, and the classes


def options(f):
    def with_options(x, y, w, keep):
        return f(x, y, where=keep, weights=w, label_smoothing=0.1, z_loss=0.1, soft_cap=20.0)

    return with_options


CASES = {  # and the arrays beside the logits
    "softmax": (sl.softmax, ()),
    "entropy_from_logits": (sl.entropy_from_logits, ()),
    "softmax_cross_entropy": (options(sl.softmax_cross_entropy), (SHARES, WEIGHTS, KEEP)),
    "softmax_cross_entropy_with_integer_labels": (
        options(sl.softmax_cross_entropy_with_integer_labels),
        (LABELS, WEIGHTS, KEEP),
    ),
    "softmax_focal_loss": (sl.softmax_focal_loss, (SHARES,)),
    "softmax_focal_loss_with_integer_labels": (sl.softmax_focal_loss_with_integer_labels, (LABELS,)),
    "poly_loss_cross_entropy": (sl.poly_loss_cross_entropy, (SHARES,)),
    "kl_divergence": (sl.kl_divergence, (SHARES,)),
    "distillation_loss": (sl.distillation_loss, (OTHER,)),
    "kl_from_logits": (sl.kl_from_logits, (OTHER,)),
    "kl_from_logits, of q": (lambda y, x: sl.kl_from_logits(x, y), (OTHER,)),
    "logit_matching_loss": (sl.logit_matching_loss, (OTHER,)),
}


def told(text):
    """How many numbers each message has at most."""
    shapes = [re.findall(r"\w+\[([\d,]*)\]", line.split("=")[1].split("-start")[0]) for line in messages(text)]
    return [int(np.prod([int(d) for d in shape.split(",") if d])) for line in shapes for shape in line]


def given(mesh, a):
    """An array of the logits' shape, of one number for each class, or for each example."""
    spec = P("data", "model") if a.ndim == 2 else P("model") if a.size == N else P("data")
    devices = np.array(jax.devices()[: np.prod(mesh)]).reshape(mesh)
    return jax.device_put(a, NamedSharding(Mesh(devices, ("data", "model")), spec))


def total_and_slope(f):
    def total(x, *rest):
        y = f(x, *rest)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return jax.value_and_grad(total)


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("name", CASES)
def test_split(name, mesh):
    f, rest = CASES[name]
    whole = jax.jit(total_and_slope(f))(X, *rest)
    parts = [given(mesh, a) for a in (X, *rest)]
    program = jax.jit(total_and_slope(f)).lower(*parts).compile()
    text = program.as_text()
    assert text is not None
    assert told(text), "the total is of all devices"
    assert max(told(text)) <= (1 if mesh == MESHES["examples"] else B * PARTS)
    for ours, wanted in zip(program(*parts), whole, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6 * np.max(np.abs(wanted)))


def test_that_logits_are_told_is_seen():
    text = jax.jit(lambda x: jnp.sort(x, -1)).lower(given(MESHES["classes"], X)).compile().as_text()
    assert text is not None
    assert max(told(text)) > B * PARTS
