"""Losses on hidden @ kernel against those of rows on the logits all at once, which the oracle knows."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl
from stablelogits_jax._bivariate import _times
from stablelogits_jax._checks import compute_type
from stablelogits_jax.verify._measure import float64_where_needed

SMALLEST = 128 * 128 * 4  # bytes of the smallest tile's logits, of 128 tokens and classes


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
    """The sum of a loss of tokens with weights, of which 0 leaves out an infinite loss too."""

    def total(hidden, kernel, labels, token_weights, **options):
        loss = f(hidden, kernel, labels, **options)
        return jnp.sum(_times(token_weights[(None,) * (loss.ndim - token_weights.ndim)], loss))

    return total


# From ours to what it is by way of rows, each with token weights as the fourth argument.
FORMS = {
    "tokens": (summed(sl.linear_softmax_cross_entropy), summed(of_rows)),
    "sum": (sl.linear_softmax_cross_entropy_sum, summed(of_rows)),
    "statistics": (summed(statistics), summed(statistics_of_rows)),
}


def close(got, wanted, tolerance, what="", size=None, tiny=0.0):
    """To so much of each number and of `size`, the terms of either sign that it is a sum of: the largest number."""
    got, wanted = (np.asarray(a, np.float64) for a in (got, wanted))
    assert got.shape == wanted.shape
    size = np.max(np.abs(wanted), where=np.isfinite(wanted), initial=0) if size is None else size
    alike = np.isclose(got, wanted, tolerance, tolerance * size + tiny, equal_nan=True)
    assert np.all(alike), f"{what} at {np.argwhere(~alike)[:3]}: {got[~alike][:3]}, not {wanted[~alike][:3]}"


def total(f, **options):
    """The sum as a function of what moves and what does not, by name."""

    def of(moving, labels, **rest):
        moving = dict(moving)
        first = moving.pop("hidden"), moving.pop("kernel"), labels, moving.pop("token_weights")
        return f(*first, **moving, **rest, **options)

    return of


def with_slopes(f, **options):
    return jax.jit(jax.value_and_grad(total(f, **options)))


ALL = ("bias", "weights", "soft_cap", "z_loss", "label_smoothing")
CASES = [  # the form, the type of hidden and of the kernel, the batch, classes, their axis, options, bytes of a tile
    ("tokens", "float32", "float32", (), 1, -1, ALL, None),
    ("sum", "float32", "float32", (2, 3), 2, 0, (), None),
    ("tokens", "bfloat16", "float32", (2, 3), 127, -1, ("weights",), None),
    ("tokens", "float32", "bfloat16", (130,), 129, 0, ALL, SMALLEST),
    ("statistics", "float16", "float16", (130,), 777, -1, ("bias", "soft_cap"), SMALLEST),
    ("tokens", "float16", "float16", (7,), 1153, 0, ("z_loss",), 7 * 128 * 4),
    ("tokens", "float64", "float64", (130,), 777, -1, ("bias", "label_smoothing"), 2 * SMALLEST),
    ("sum", "bfloat16", "bfloat16", (130,), 1153, 0, ALL, 17 * 1153 * 4),
    ("sum", "float64", "float64", (7,), 1153, -1, ("soft_cap", "weights"), None),
]
EXACT = {"float64": 2e-14, "float32": 4e-6}  # some ulps, and sums of 130 tokens and 1153 classes in another order
ROUNDED = {"bfloat16": 1.01 * 2**-8, "float16": 1.01 * 2**-11} | EXACT  # once, to the type of what moves


@pytest.mark.parametrize(("form", "dtype", "kind", "shape", "classes", "axis", "names", "limit"), CASES)
def test_value_and_slopes(form, dtype, kind, shape, classes, axis, names, limit):
    """Of sizes that tiles do not divide, with a weight of its own for each token. Products are exact in every type."""
    ours, rows = FORMS[form]
    rng = np.random.default_rng(12)
    with float64_where_needed(dtype):
        wide = compute_type(jnp.dtype(dtype))

        def quarters(kind, *size):
            return jnp.asarray(rng.integers(-6, 7, size) / 4, kind)

        def uniform(low, high, *size):
            return jnp.asarray(rng.uniform(low, high, size), wide)

        labels = jnp.asarray(rng.integers(classes, size=shape))
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

        moving |= {name: options[name] for name in names}
        got, slopes = with_slopes(ours, vocab_axis=axis, memory_limit=limit)(moving, labels)
        widened = jax.tree.map(lambda a: a.astype(wide), moving)
        wanted, true = with_slopes(rows, vocab_axis=axis)(widened, labels)
        assert got.dtype == wide
        close(got, wanted, EXACT[wide.name])
        for name, slope in slopes.items():
            assert slope.dtype == moving[name].dtype
            close(slope, true[name], ROUNDED[slope.dtype.name], name)


# Logits of any kind: hidden is the identity, so that they are the kernel, and its slope is theirs --------------------

TOKENS, CLASSES, IGNORED = 130, 1153, -100  # two blocks of tokens, and tiles that overlap, in both forms
FLUSHED = (
    100 * CLASSES * float(np.finfo(np.float32).tiny)
)  # what a sum of exponentials, or those times leads, may have lost
LEADS = (17, 30, 50, 80)


def _corners():
    """Tokens with ties, in one tile and in some, and with a lead, of the label and of another, in each kind of tile."""
    rng = np.random.default_rng(3)
    x = rng.integers(-16, 17, (TOKENS, CLASSES)) / 4
    label = rng.integers(CLASSES, size=TOKENS)
    x[0] = 0
    x[1, [0, 1152]] = x[2, [500, 1030, 1100]] = 10
    label[1:3] = 1152, 500
    for i, (lead, top) in enumerate(product(LEADS, (0, 600, 1100))):
        for token in (2 * i + 3, 2 * i + 4):
            x[token, top] = np.max(np.delete(x[token], top)) + lead
        label[2 * i + 3] = top
    return x.astype(np.float32), label


X, LABEL = _corners()
TOKEN, CLASS = np.arange(TOKENS), np.arange(CLASSES)
WEIGHT = np.linspace(0.5, 2, TOKENS, dtype=np.float32)
KEEP, PADDED = TOKEN < 60, TOKEN % 7 == 2  # none of the last block is kept


def biased(value, where):
    return {"bias": np.where(where, value, np.zeros(CLASSES))}


NONE_OF_LAST = {  # block of tokens is kept; the others hold what must reach nothing
    "hidden": np.where((KEEP & ~PADDED)[:, None], np.eye(TOKENS), np.where(TOKEN % 2, np.nan, np.inf)[:, None]),
    "labels": np.where(PADDED, IGNORED, LABEL),
    "where": KEEP,
}
SITUATIONS = {
    "corners": {},
    "first step": {"kernel": np.zeros_like(X)},
    "common offset": biased(2.0**18, True),
    "smoothing and z": {"label_smoothing": np.float32(0.125), "z_loss": np.float32(0.01)},
    "absent classes": biased(-np.inf, CLASS % 3 == 1),
    "absent labels of weight 0": biased(-np.inf, CLASS % 3 == 1) | {"token_weights": WEIGHT * (LABEL % 3 != 1)},
    "no class": biased(-np.inf, True),
    "an infinite class": biased(np.inf, CLASS == 1100),
    "infinite classes": biased(np.inf, np.isin(CLASS, [3, 600, 1152])),
    "labels out of range": {"labels": np.where(TOKEN == 4, -1, np.where(TOKEN > 127, CLASSES + TOKEN - 128, LABEL))},
    "ignored tokens": NONE_OF_LAST,
    "ignored tokens, their class absent": NONE_OF_LAST | biased(-np.inf, CLASS == 0),
    "ignored tokens, an infinite class": NONE_OF_LAST | biased(np.inf, CLASS == 1100),
}
GIVEN = {
    "hidden": np.eye(TOKENS),
    "kernel": X,
    "bias": np.zeros(CLASSES),
    "token_weights": WEIGHT,
    "weights": np.linspace(0.5, 2, CLASSES),
    "labels": LABEL,
    "where": np.full(TOKENS, True),
    "label_smoothing": 0.0,
    "z_loss": 0.0,
}
MOVING = ("bias", "hidden", "kernel", "token_weights", "weights")


@pytest.mark.parametrize("form", FORMS)
def test_situations(form):
    """Each logit's slope to some ulps of its own: at a class of far less than 1, and at the label of a sure token."""
    f, f_rows = FORMS[form]
    ours = with_slopes(f, ignore_index=IGNORED, memory_limit=17 * CLASSES * 4 if form == "sum" else SMALLEST)
    rows = with_slopes(f_rows)
    parts = np.eye(3)[:, :, None] if form == "statistics" else [1.0]  # one by one, as their slopes cancel
    for (name, situation), (i, part) in product(SITUATIONS.items(), enumerate(parts)):
        given = GIVEN | situation
        given["token_weights"] = part * given["token_weights"]
        if form == "statistics":
            del given["label_smoothing"], given["z_loss"], given["weights"]
        given = {
            n: a.astype(np.float32) if a.dtype == np.float64 else a
            for n, a in ((n, np.asarray(a)) for n, a in given.items())
        }
        moving = {n: given.pop(n) for n in MOVING if n in given}
        got, slopes = ours(moving, **given)
        keep = given["where"] & (given["labels"] != IGNORED)
        moving["hidden"] = np.where(keep[:, None], moving["hidden"], 0)
        wanted, true = rows(moving, **given | {"where": keep, "labels": np.where(keep, given["labels"], 0)})
        close(got, wanted, 1e-6, name)
        for n, slope in true.items():
            size, tiny = given.get("label_smoothing", 0) / CLASSES, FLUSHED
            if i == 2 and n == "kernel":
                size = np.asarray(true["token_weights"])[2, :, None]
            if n in ("bias", "hidden", "weights"):
                size, tiny = None, 1e-12  # sums over classes or tokens
            close(slopes[n], slope, 4e-6, f"{name}: {n}", size, tiny)


MODES = {
    "reverse over reverse": lambda f, m, v: jax.grad(lambda m: jnp.vdot(jax.grad(f)(m), v))(m),
    "forward over reverse": lambda f, m, v: jax.jvp(jax.grad(f), (m,), (v,))[1],
    "forward over forward": lambda f, m, v: jax.jvp(lambda m: jax.jvp(f, (m,), (v,))[1], (m,), (v,))[1],
}


@pytest.mark.parametrize("form", FORMS)
def test_products_with_the_hessian(form):
    """Of each token to some ulps of its own, also where the top is within 1e-35 of sure."""
    n = 2 * len(LEADS) * 3 + 3  # the tokens of _corners
    v = np.random.default_rng(5).normal(size=(n, CLASSES)).astype(np.float32)

    def along(mode, f, **options):
        def of(w):
            return mode(
                lambda kernel: f(jnp.eye(n), kernel, jnp.asarray(LABEL[:n]), w, **options), jnp.asarray(X[:n]), v
            )

        return jax.jit(of)

    ours, rows = FORMS[form]
    in_rows = along(MODES["forward over reverse"], rows)
    tiled = {
        k: along(m, ours, memory_limit=8 * CLASSES * 4 if form == "sum" else n * 128 * 4) for k, m in MODES.items()
    }
    for part in np.eye(3)[:, :, None] if form == "statistics" else [1.0]:
        w = (part * WEIGHT[:n]).astype(np.float32)
        wanted = np.asarray(in_rows(w), np.float64)
        for mode in ("reverse over reverse", "forward over reverse"):
            close(tiled[mode](w), wanted, 1e-5, mode, np.max(np.abs(wanted), -1, keepdims=True), FLUSHED)
        for i in range(n):
            alone = tiled["forward over forward"](np.where(np.arange(n) == i, w, 0))
            close(alone, np.sum(wanted[i] * v[i]), 1e-5, f"forward over forward, {i}", 0, FLUSHED)


@pytest.mark.parametrize("form", ["tokens", "sum"])
def test_slopes_in_bfloat16(form):
    """Of likely labels with logits up to 171: rounding a slope once costs 0.1 to 0.2 %, rounding the logits would cost
    13 %."""
    rng = np.random.default_rng(9)
    hidden, kernel = (jnp.asarray(rng.normal(size=size) * 2.6, jnp.bfloat16) for size in ((TOKENS, 24), (24, CLASSES)))
    h, w = (np.asarray(a, np.float64) for a in (hidden, kernel))
    z = h @ w
    label = np.argmax(z, -1)
    assert 165 < np.max(np.abs(z)) < 180

    def from_logits(z):
        p = np.exp(z - np.max(z, -1, keepdims=True))
        miss = p / np.sum(p, -1, keepdims=True) - (label[:, None] == CLASS)
        return {"hidden": miss @ w.T, "kernel": h.T @ miss}

    true, of_rounded = from_logits(z), from_logits(z.astype(jnp.bfloat16).astype(np.float64))
    options = {"memory_limit": 17 * CLASSES * 4 if form == "sum" else SMALLEST}
    moving = {"hidden": hidden, "kernel": kernel, "token_weights": jnp.ones(TOKENS)}
    _, slopes = with_slopes(FORMS[form][0], **options)(moving, label)
    for name, slope in true.items():
        off, rounded = (np.linalg.norm(np.asarray(a[name], np.float64) - slope) for a in (slopes, of_rounded))
        assert off <= 0.003 * np.linalg.norm(slope) < 0.1 * np.linalg.norm(slope) < rounded
