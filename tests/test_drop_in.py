"""The documented calls of jax.nn, jax.scipy.special and optax work on ours, with the same result on moderate inputs."""

import inspect

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import optax
import pytest

import stablelogits_jax as sl

RNG = np.random.default_rng(3)
X = jnp.asarray(RNG.normal(size=(4, 5, 6)), jnp.float32)
P = jnp.asarray(RNG.uniform(0.05, 0.95, size=(4, 5, 6)), jnp.float32)
Q = jnp.asarray(RNG.uniform(0.05, 0.95, size=(4, 5, 6)), jnp.float32)
Y = jnp.asarray(RNG.dirichlet(np.ones(6), (4, 5)), jnp.float32)
HOT = jax.nn.one_hot(RNG.integers(6, size=(4, 5)), 6)
LABEL = jnp.asarray(RNG.integers(6, size=(4, 5)))
KEEP = jnp.asarray(RNG.random((4, 5, 6)) < 0.7).at[..., 0].set(True)
SIGNED = jnp.asarray(RNG.normal(size=(4, 5, 6)), jnp.float32)

PEERS = {
    **{name: getattr(jax.nn, name) for name in ("sigmoid", "log_sigmoid", "softplus", "softmax", "log_softmax")},
    **{name: getattr(jax.scipy.special, name) for name in ("logit", "xlogy", "xlog1py", "entr", "rel_entr")},
    "logsumexp": jax.scipy.special.logsumexp,
    "logaddexp": jnp.logaddexp,
    "log1mexp": getattr(jax.nn, "log1mexp", None),
    "log_cosh": optax.losses.log_cosh,
    **{
        name: getattr(optax.losses, name)
        for name in (
            "sigmoid_binary_cross_entropy",
            "sigmoid_focal_loss",
            "softmax_cross_entropy",
            "safe_softmax_cross_entropy",
            "softmax_cross_entropy_with_integer_labels",
            "poly_loss_cross_entropy",
            "smooth_labels",
            "kl_divergence",
            "kl_divergence_with_log_targets",
            "generalized_kl_divergence",
        )
    },
    "convex_kl_divergence": optax.losses.generalized_kl_divergence,  # theirs of this name is deprecated
}

CALLS = [
    ("sigmoid", lambda f: f(X)),
    ("sigmoid", lambda f: f(x=X)),
    ("log_sigmoid", lambda f: f(X)),
    ("softplus", lambda f: f(x=X)),
    ("logit", lambda f: f(P)),
    ("logit", lambda f: f(0.25)),
    ("log1mexp", lambda f: f(P)),
    ("logaddexp", lambda f: f(X, X[:1])),
    ("logaddexp", lambda f: f(X, 0)),
    ("xlogy", lambda f: f(X, P)),
    ("xlogy", lambda f: f(x=X, y=P)),
    ("xlog1py", lambda f: f(x=X, y=P)),
    ("entr", lambda f: f(P)),
    ("rel_entr", lambda f: f(p=P, q=Q)),
    ("log_cosh", lambda f: f(X)),
    ("log_cosh", lambda f: f(X, P)),
    ("log_cosh", lambda f: f(predictions=X, targets=P)),
    ("softmax", lambda f: f(X)),
    ("softmax", lambda f: f(X, 1)),
    ("softmax", lambda f: f(X, axis=(0, -1))),
    ("softmax", lambda f: f(X, axis=None)),
    ("softmax", lambda f: f(X, -1, KEEP)),
    ("softmax", lambda f: f(x=X, axis=-1, where=KEEP)),
    ("log_softmax", lambda f: f(X)),
    ("log_softmax", lambda f: f(X, 0)),
    ("log_softmax", lambda f: f(X, axis=(1, 2))),
    ("log_softmax", lambda f: f(X, axis=-1, where=KEEP)),
    ("logsumexp", lambda f: f(X)),
    ("logsumexp", lambda f: f(X, -1)),
    ("logsumexp", lambda f: f(X, (0, 2))),
    ("logsumexp", lambda f: f(X, axis=1, keepdims=True)),
    ("logsumexp", lambda f: f(X, -1, P)),
    ("logsumexp", lambda f: f(X, axis=-1, b=P[0, 0])),
    ("logsumexp", lambda f: f(X, axis=-1, b=2.0)),
    ("logsumexp", lambda f: f(X[0], axis=-1, b=P)),
    ("logsumexp", lambda f: f(X, axis=-1, b=SIGNED)),
    ("logsumexp", lambda f: f(X, axis=-1, b=SIGNED, return_sign=True)),
    ("logsumexp", lambda f: f(X, -1, SIGNED, True, True)),
    ("logsumexp", lambda f: f(X, axis=(0, 1), b=SIGNED, keepdims=True, return_sign=True)),
    ("logsumexp", lambda f: f(X, return_sign=True)),
    ("logsumexp", lambda f: f(X, axis=-1, where=KEEP)),
    ("logsumexp", lambda f: f(X, axis=-1, b=SIGNED, return_sign=True, where=KEEP)),
    ("logsumexp", lambda f: f(a=X, axis=-1)),
    ("sigmoid_binary_cross_entropy", lambda f: f(X, P)),
    ("sigmoid_binary_cross_entropy", lambda f: f(logits=X, labels=HOT.astype(int))),
    ("sigmoid_focal_loss", lambda f: f(X, HOT)),
    ("sigmoid_focal_loss", lambda f: f(X, P, alpha=0.3)),
    ("sigmoid_focal_loss", lambda f: f(X, HOT, alpha=0.25, gamma=1.5)),
    ("sigmoid_focal_loss", lambda f: f(logits=X, labels=HOT, gamma=0.0)),
    ("softmax_cross_entropy", lambda f: f(X, Y)),
    ("softmax_cross_entropy", lambda f: f(X, HOT, 2)),
    ("softmax_cross_entropy", lambda f: f(X, Y, axis=(1, 2))),
    ("softmax_cross_entropy", lambda f: f(X, Y, axis=None)),
    ("softmax_cross_entropy", lambda f: f(X, Y * KEEP, -1, KEEP)),
    ("softmax_cross_entropy", lambda f: f(logits=X, labels=HOT * KEEP, axis=-1, where=KEEP)),
    ("softmax_cross_entropy", lambda f: f(X, HOT[:1, :1])),
    ("safe_softmax_cross_entropy", lambda f: f(X, Y)),
    ("safe_softmax_cross_entropy", lambda f: f(logits=X, labels=HOT)),
    ("softmax_cross_entropy_with_integer_labels", lambda f: f(X, LABEL)),
    ("softmax_cross_entropy_with_integer_labels", lambda f: f(X, LABEL[:, 0], axis=(1, 2))),
    ("softmax_cross_entropy_with_integer_labels", lambda f: f(X, LABEL[:, :1].repeat(6, 1) % 5, 1)),
    ("softmax_cross_entropy_with_integer_labels", lambda f: f(X, LABEL * 0, -1, KEEP)),
    ("softmax_cross_entropy_with_integer_labels", lambda f: f(logits=X, labels=LABEL, axis=-1)),
    ("kl_divergence", lambda f: f(jnp.log(P), Q)),
    ("kl_divergence", lambda f: f(X, HOT, 2)),
    ("kl_divergence", lambda f: f(X, Y, axis=(0, 2))),
    ("kl_divergence", lambda f: f(X, Y, axis=None)),
    ("kl_divergence", lambda f: f(X, Y[:1, :1])),
    ("kl_divergence", lambda f: f(log_predictions=X, targets=Y, axis=-1, where=KEEP)),
    ("kl_divergence_with_log_targets", lambda f: f(X, jnp.log(P))),
    ("kl_divergence_with_log_targets", lambda f: f(X, jnp.log(P[:, :1]), 1)),
    ("kl_divergence_with_log_targets", lambda f: f(log_predictions=X, log_targets=SIGNED, axis=-1, where=KEEP)),
    ("generalized_kl_divergence", lambda f: f(jnp.log(P), Q)),
    ("generalized_kl_divergence", lambda f: f(X, HOT, (0, 1), KEEP)),
    ("generalized_kl_divergence", lambda f: f(log_predictions=X, targets=Y, axis=-1, where=KEEP)),
    ("convex_kl_divergence", lambda f: f(X, Y)),
    ("poly_loss_cross_entropy", lambda f: f(X, Y)),
    ("poly_loss_cross_entropy", lambda f: f(X, HOT, epsilon=-0.5)),
    ("poly_loss_cross_entropy", lambda f: f(logits=X, labels=Y, epsilon=1.0, axis=(1, 2))),
    ("poly_loss_cross_entropy", lambda f: f(X, Y * KEEP, axis=-1, where=KEEP)),
    ("smooth_labels", lambda f: f(HOT, 0.1)),
    ("smooth_labels", lambda f: f(HOT, alpha=0.1, axis=-1)),
    ("smooth_labels", lambda f: f(HOT, 0.1, axis=1)),
    ("smooth_labels", lambda f: jnp.where(KEEP, f(HOT, 0.1, axis=-1, where=KEEP), 0)),  # a masked label is 0 in ours
]


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CALLS)])
def test_same_result(name, call):
    """Under standard promotion, as their users have it."""
    if PEERS[name] is None:
        pytest.skip("this version of JAX has no such function")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        ours, theirs = call(getattr(sl, name)), call(PEERS[name])
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for got, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer is not None and name != "logaddexp"])
def test_same_parameters(name):
    """Each parameter of theirs is one of ours, by the same name, and may be given by position where theirs may."""
    theirs = inspect.signature(PEERS[name]).parameters
    ours = inspect.signature(getattr(sl, name)).parameters
    for position, (parameter, of_theirs) in enumerate(theirs.items()):
        assert parameter in ours
        if of_theirs.kind is not inspect.Parameter.KEYWORD_ONLY:
            assert list(ours)[position] == parameter
            assert ours[parameter].kind is not inspect.Parameter.KEYWORD_ONLY
        if of_theirs.default is not inspect.Parameter.empty:
            assert ours[parameter].default == of_theirs.default


def test_same_gradients():
    """Of the losses, which are what a training step differentiates."""
    for name, labels in (
        ("sigmoid_binary_cross_entropy", HOT),
        ("sigmoid_focal_loss", HOT),
        ("softmax_cross_entropy", Y),
        ("softmax_cross_entropy_with_integer_labels", LABEL),
        ("kl_divergence", Y),
        ("kl_divergence_with_log_targets", jnp.log(Y)),
        ("generalized_kl_divergence", Y),
    ):
        ours, theirs = (jax.grad(lambda x, f=f: f(x, labels).mean())(X) for f in (getattr(sl, name), PEERS[name]))  # noqa: B023
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)
