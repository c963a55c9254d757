"""What the accuracy tests do not go through: linearize, export, shard_map, Hessians, third order, chains, vmap axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import PLAIN, WAYS, check_accuracy, each, spec_of
from jax import export
from jax.sharding import Mesh, PartitionSpec
from mpmath import mpf, workprec

import stablelogits_jax as sl
from stablelogits_jax.verify._measure import derivatives
from stablelogits_jax.verify._metric import Exact, ulp_error
from stablelogits_jax.verify._oracle import along

FLOAT32 = jnp.dtype("float32")


def arguments(spec):
    return [jnp.asarray(a) for a in spec.grid(FLOAT32)]


def of_first(spec):
    """The first argument, and ours as a function of it alone."""
    x, *rest = arguments(spec)
    return x, lambda x: spec.ours()(x, *rest)


@each(PLAIN)
def test_linearize(spec):
    """The linear map of linearize is the slope in forward mode, and its transpose that in reverse mode."""
    examples = len(arguments(spec)[0])

    def units(like):  # each of an example's numbers in turn, in all examples
        size = like[0].size
        return [jnp.zeros((examples, size), like.dtype).at[:, j].set(1).reshape(like.shape) for j in range(size)]

    def linearized(*args):
        y, forward, reverse = spec.ours()(*args), [], []
        for i in spec.wrt:
            _, push = jax.linearize(lambda x, i=i: spec.ours()(*args[:i], x, *args[i + 1 :]), args[i])
            pull = jax.linear_transpose(push, args[i])
            forward += [push(unit).reshape(examples, -1) for unit in units(args[i])]
            reverse += [jnp.stack([pull(unit)[0].reshape(examples, -1) for unit in units(y)], 1)]
        return y.reshape(examples, -1), jnp.stack(forward, -1), jnp.concatenate(reverse, -1)

    check_accuracy(spec.ours(), spec, FLOAT32, run=lambda _: jax.jit(linearized), order=1)


@each(PLAIN)
def test_export(spec):
    """Lowered ahead of time and called."""
    jitted = jax.jit(lambda *args: derivatives(spec.ours(), args, spec.wrt, 1))
    exported = export.export(jitted)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments(spec)))
    check_accuracy(spec.ours(), spec, FLOAT32, run=lambda _: exported.call, order=1)


OF_ONE_ROW = (sl.softmax, sl.z_loss, sl.sigmoid, sl.entropy_from_logits, lambda x: sl.logsumexp(x, axis=-1))
OF_TWO_ROWS = (
    sl.softmax_cross_entropy,
    sl.softmax_focal_loss,
    sl.poly_loss_cross_entropy,
    sl.kl_divergence,
    sl.kl_divergence_with_log_targets,
    sl.generalized_kl_divergence,
    sl.js_divergence,
    sl.kl_from_logits,
    sl.distillation_loss,
    sl.logit_matching_loss,
)


@pytest.mark.parametrize("f", [*OF_ONE_ROW, *(lambda x, f=f: f(x, jnp.abs(x) / 100) for f in OF_TWO_ROWS)])
def test_exports_shapes_that_are_not_known(f):
    batch, classes = export.symbolic_shape("batch, classes")
    x = jnp.asarray(np.random.default_rng(8).normal(size=(5, 300)), jnp.float32)
    for g in (f, jax.grad(lambda x: jnp.sum(f(x)))):
        exported = export.export(jax.jit(g))(jax.ShapeDtypeStruct((batch, classes), x.dtype))
        wanted = g(x)  # a row's terms may cancel: to an ulp of what all rows have in size
        np.testing.assert_allclose(exported.call(x), wanted, rtol=1e-5, atol=1e-7 * max(1, np.max(np.abs(wanted))))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@each(PLAIN)
def test_lowers_for(spec, platform):
    """Value and gradient lower for machines that are not here."""
    x, f = of_first(spec)
    both = jax.jit(lambda x: jax.vjp(f, x)[1](jnp.ones_like(f(x))))
    export.export(both, platforms=[platform])(jax.ShapeDtypeStruct(x.shape, x.dtype))


@each(PLAIN)
def test_shard_map(spec):
    """Examples over a mesh axis, of two devices."""
    mesh = Mesh(np.array(jax.devices()[:2]), "batch")
    spread = PartitionSpec("batch")

    def sharded(f):
        return lambda *args: jax.shard_map(f, mesh=mesh, in_specs=spread, out_specs=spread)(*args)

    check_accuracy(sharded(spec.ours()), spec, FLOAT32, order=1)


@pytest.mark.parametrize("name", ["softplus", "log_sigmoid", "sigmoid", "logit", "log1mexp", "log_cosh", "logitexp"])
def test_third_order(name):
    """Every order is as good as the first: the third by forward mode three times, and by reverse within."""
    spec = spec_of(name)
    (x,) = arguments(spec)
    x = x[:256]
    f = spec.ours()

    def derivative(g):
        return lambda x: jax.jvp(g, (x,), (jnp.ones_like(x),))[1]

    def gradient(g):
        return jax.grad(lambda x: jnp.sum(g(x)))

    with workprec(1200):
        numbers = [along(spec.formula, [float(a)], (0,), {0: mpf(1)}, 3)[3].item() for a in x]
        exact = Exact.of(np.array(numbers, dtype=object))
    forward, mixed = derivative(derivative(derivative(f))), derivative(gradient(derivative(f)))
    for third in (forward, mixed, gradient(gradient(gradient(f)))):
        result = np.asarray(jax.jit(third)(x))
        errors = ulp_error(result, exact, third_scale(name, np.asarray(x, np.float64)))
        at = np.argmax(errors)
        assert errors[at] <= 16, (name, float(x[at]), result[at], exact.rounded()[at])


def third_scale(name, x):
    """sigmoid''' = b (t^2 - 2 b) crosses zero, as do the others made of it: the larger term."""
    e = np.exp(-np.abs(x if name != "log_cosh" else 2 * x))
    b, t = e / (1 + e) ** 2, (1 - e) / (1 + e)
    return b * np.maximum(t * t, 2 * b) if name == "sigmoid" else 0.0


@pytest.mark.parametrize("way", WAYS)
def test_in_a_chain(way):
    """Behind and before one another: logit(sigmoid(x)) = x has slope 1, and softplus_inverse(softplus(x)) too."""
    x = jnp.linspace(-80, 15, 257)
    for chain, rtol in (
        (lambda x: sl.logitexp(sl.log_sigmoid(x)), 1e-6),
        (lambda x: sl.softplus_inverse(sl.softplus(x)), 1e-6),
        (lambda x: sl.logaddexp(sl.logsubexp(x, x - 1), x - 1), 3e-5),  # x is an ulp of 80 off in between
    ):
        slope = jax.jit(jax.grad(lambda x, chain=chain: jnp.sum(WAYS[way](chain)(x))))(x)
        np.testing.assert_allclose(slope, 1, rtol=rtol)


def test_hessian_of_a_batch_loss():
    """jax.hessian of a mean loss: symmetric, positive semidefinite, and zero along equal shifts."""
    x = jnp.asarray(np.random.default_rng(6).normal(size=(3, 4)) * 5, jnp.float32)
    label = jnp.array([0, 3, 1])

    def loss(x):
        return sl.masked_mean(sl.softmax_cross_entropy_with_integer_labels(x, label))

    modes = (jax.jacfwd, jax.jacrev)
    for hessian in (jax.hessian(loss), *(outer(inner(loss)) for outer in modes for inner in modes)):
        h = np.asarray(jax.jit(hessian)(x)).reshape(12, 12)
        np.testing.assert_allclose(h, h.T, atol=1e-8)
        assert np.linalg.eigvalsh(h.astype(np.float64)).min() > -1e-7
        np.testing.assert_allclose(h.reshape(12, 3, 4).sum(-1), 0, atol=1e-7)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (1, 1), (0, 1)])
def test_vmap_axes(axes):
    """Logits and labels batched apart, together, and along different axes."""
    rng = np.random.default_rng(7)
    x = jnp.asarray(rng.normal(size=(3, 3, 3)), jnp.float32)
    y = jnp.asarray(rng.dirichlet(np.ones(3), (3, 3)), jnp.float32)
    given = [v[0] if axis is None else v for v, axis in zip((x, y), axes, strict=True)]
    got = jax.vmap(lambda x, y: sl.softmax_cross_entropy(x, y), in_axes=axes)(*given)
    for i in range(3):
        a, b = (v if axis is None else jnp.take(v, i, axis) for v, axis in zip(given, axes, strict=True))
        np.testing.assert_allclose(got[i], sl.softmax_cross_entropy(a, b), rtol=1e-6)


def test_inside_control_flow():
    """while_loop, cond and scan carry the functions like any other."""

    def newton(y):
        """softplus(x) = y for x, by Newton's method in a while loop."""
        step = lambda x: x - (sl.softplus(x) - y) / sl.sigmoid(x)  # noqa: E731
        return jax.lax.while_loop(lambda x: jnp.abs(sl.softplus(x) - y) > 1e-6, step, y)

    y = jnp.float32(2.0)
    np.testing.assert_allclose(jax.jit(newton)(y), sl.softplus_inverse(y), rtol=1e-5)
    f = jax.jit(jax.grad(lambda x: jax.lax.cond(x > 0, sl.softplus, sl.log_sigmoid, x)))
    np.testing.assert_allclose(f(2.0), sl.sigmoid(2.0), rtol=1e-6)
    np.testing.assert_allclose(f(-2.0), sl.sigmoid(2.0), rtol=1e-6)
