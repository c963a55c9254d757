"""Which type comes out, of which type the gradient is, and what is taken for an array."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import each

import stablelogits_jax as sl
from stablelogits_jax.verify._measure import float64_where_needed
from stablelogits_jax.verify._specs import SPECS

LOSSES = {
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "safe_softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "z_loss",
    "softmax_focal_loss",
    "softmax_focal_loss_with_integer_labels",
    "poly_loss_cross_entropy",
    "ordinal_cross_entropy",
    "info_nce_loss",
    "sigmoid_contrastive_loss",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "generalized_kl_divergence",
    "convex_kl_divergence",
    "js_divergence",
    "distillation_loss",
    "logit_matching_loss",
    "bradley_terry_loss",
    "simpo_loss",
    "orpo_loss",
    "dpo_loss",
    "ipo_loss",
    "kto_loss",
    "linear_softmax_cross_entropy",
    "linear_softmax_cross_entropy_sum",
    "linear_token_statistics",
}


@each(SPECS)
def test_results_and_gradients(spec, dtype):
    """The input's type; float32 for a loss of 16-bit logits; gradients and tangents like what they belong to."""
    args = [jnp.asarray(a) for a in spec.grid(dtype)]
    f = spec.ours()
    moving = [args[i] for i in spec.wrt]

    def of_wrt(*moving):
        return f(*[dict(zip(spec.wrt, moving, strict=True)).get(i, a) for i, a in enumerate(args)])

    def gradient(*moving):
        return jax.grad(lambda *m: of_wrt(*m).sum(), argnums=tuple(range(len(moving))))(*moving)

    kind = jnp.float32 if spec.name in LOSSES and dtype.itemsize == 2 else dtype
    value, tangent = jax.eval_shape(lambda *m: jax.jvp(of_wrt, m, m), *moving)
    assert value.dtype == tangent.dtype == kind
    assert not value.weak_type
    assert {g.dtype for g in jax.eval_shape(gradient, *moving)} == {dtype}
    _, second = jax.eval_shape(lambda *m: jax.jvp(gradient, m, m), *moving)
    assert {g.dtype for g in second} == {dtype}


@each(SPECS)
def test_float32_stays_float32_in_64_bit_mode(spec):
    with float64_where_needed("float64"):
        args = [jnp.asarray(a) for a in spec.grid(jnp.dtype("float32"))]
        assert jax.eval_shape(spec.ours(), *args).dtype == jnp.float32
        text = str(jax.make_jaxpr(lambda *a: jax.value_and_grad(lambda *a: spec.ours()(*a).sum())(*a))(*args))
        assert not re.search(r"f64\[\d", text)  # a constant f64[] is a Python number


@pytest.mark.parametrize("name", ["sigmoid", "log_sigmoid", "softplus", "logit", "log_cosh", "entr", "log1mexp"])
def test_python_numbers_and_numpy_arrays(name):
    f = getattr(sl, name)
    wanted = f(jnp.float32(0.25))
    for value in (0.25, np.float32(0.25), np.float64(0.25), np.array(0.25)):
        got = f(value)
        assert isinstance(got, jax.Array)
        assert got.dtype == jnp.float32
        assert got == wanted
    np.testing.assert_array_equal(f(np.full((2, 3), 0.25, np.float32)), jnp.full((2, 3), wanted))
    np.testing.assert_array_equal(f(np.full(3, 0.25, jnp.bfloat16)), f(jnp.full(3, 0.25, jnp.bfloat16)))


@pytest.mark.parametrize("kind", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", ["logaddexp", "logsubexp", "log_sigmoid_diff", "xlogy", "xlog1py", "rel_entr"])
def test_python_numbers_beside_arrays(name, kind):
    """A Python number, also an integer, takes the type of the array beside it; a scalar broadcasts."""
    f = getattr(sl, name)
    with float64_where_needed(kind):
        x = jnp.array([2.0, 3.0], kind)
        for other in (1, 1.0):
            got = f(x, other)
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(got, f(x, jnp.ones_like(x)))
        a, b = x[:, None], x[None, :] / 2
        np.testing.assert_array_equal(f(a, b), f(jnp.broadcast_to(a, (2, 2)), jnp.broadcast_to(b, (2, 2))))


@pytest.mark.parametrize("kind", ["int32", "bool", "float32", "bfloat16", "uint8"])
@pytest.mark.parametrize("logits", ["float32", "bfloat16"])
def test_dense_labels_of_any_type(kind, logits):
    """One-hot labels may be integers, booleans or floats of another type than the logits."""
    x = jnp.array([[1.0, -2.0, 0.5]], logits)
    hot = jnp.array([[0, 1, 0]])
    dense = (sl.softmax_cross_entropy, sl.sigmoid_binary_cross_entropy, sl.sigmoid_focal_loss)
    for f in (*dense, sl.kl_divergence, sl.generalized_kl_divergence):
        got, gradient = jax.value_and_grad(lambda x, f=f: f(x, hot.astype(kind)).sum())(x)
        wanted, slope = jax.value_and_grad(lambda x, f=f: f(x, hot.astype(logits)).sum())(x)
        assert (got.dtype, gradient.dtype) == (wanted.dtype, slope.dtype)
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(gradient, slope)


@pytest.mark.parametrize("kind", ["int32", "uint8", "bool", "float16"])
def test_weights_of_any_type(kind):
    loss, weights = jnp.array([1.0, 2.0, 4.0]), jnp.array([1, 0, 1], kind)
    assert sl.masked_mean(loss, weights=weights) == 2.5


def test_no_rounding_of_labels_to_16_bits():
    """float32 labels beside bfloat16 logits keep their digits: 1.001 is no bfloat16."""
    x = jnp.zeros(2, jnp.bfloat16)
    assert sl.softmax_cross_entropy(x, jnp.array([1.001, 0.0])) == jnp.float32(1.001) * jnp.log(jnp.float32(2))


def test_empty_batches_and_scalars():
    assert sl.sigmoid(jnp.zeros((0, 3))).shape == (0, 3)
    assert sl.softmax(jnp.zeros((0, 3))).shape == (0, 3)
    assert sl.softmax_cross_entropy(jnp.zeros((0, 3)), jnp.zeros((0, 3))).shape == (0,)
    assert sl.softmax_cross_entropy_with_integer_labels(jnp.zeros((0, 3)), jnp.zeros(0, int)).shape == (0,)
    assert sl.masked_mean(jnp.zeros(0)) == 0
    hidden, kernel, none = jnp.zeros((2, 0, 3)), jnp.ones((3, 5)), jnp.zeros((2, 0), int)
    assert sl.linear_softmax_cross_entropy(hidden, kernel, none).shape == (2, 0)
    assert sl.linear_token_statistics(hidden, kernel, none, where=none == 0).entropy.shape == (2, 0)
    assert not jnp.any(jax.grad(lambda w: sl.linear_softmax_cross_entropy_sum(hidden, w, none))(kernel))
    assert sl.logsumexp(jnp.float32(2.0)) == 2
    assert sl.logsumexp(jnp.zeros((2, 0)), axis=1).tolist() == [-jnp.inf, -jnp.inf]
