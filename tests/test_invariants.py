"""What holds for all inputs: Hypothesis looks for one for which it does not."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import stablelogits_jax as sl

settings.register_profile("searching", max_examples=200, deadline=None, derandomize=True)
settings.load_profile("searching")

EPS = float(jnp.finfo(jnp.float32).eps)
FAR = 2.0**127
CLASSES = 4
far = st.floats(-FAR, FAR, width=32, allow_subnormal=False)
logit = st.one_of(st.floats(-50, 50, width=32), far, st.just(-np.inf))
finite = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
share = st.floats(0, 1, width=32, allow_subnormal=False)
rows = arrays(np.float32, CLASSES, elements=logit)
finite_rows = arrays(np.float32, CLASSES, elements=finite)
shares = arrays(np.float32, CLASSES, elements=share)
labels = st.integers(0, CLASSES - 1)
some_class = st.lists(st.booleans(), min_size=CLASSES, max_size=CLASSES).filter(any)


softmax = jax.jit(sl.softmax)
log_softmax = jax.jit(sl.log_softmax)
logsumexp = jax.jit(sl.logsumexp)
entropy = jax.jit(sl.entropy_from_logits)
divergence = jax.jit(sl.kl_from_logits)
log_prob = jax.jit(sl.log_prob_from_logits)
dense = jax.jit(sl.softmax_cross_entropy)
integer = jax.jit(sl.softmax_cross_entropy_with_integer_labels)
binary = jax.jit(sl.sigmoid_binary_cross_entropy)
dense_slope, integer_slope, binary_slope = (jax.jit(jax.grad(f)) for f in (dense, integer, binary))
mean = jax.jit(sl.masked_mean)
kl, kl_of_logs, generalized, js, bernoulli, distillation, matching = map(
    jax.jit,
    (
        sl.kl_divergence,
        sl.kl_divergence_with_log_targets,
        sl.generalized_kl_divergence,
        sl.js_divergence,
        sl.bernoulli_kl_from_logits,
        sl.distillation_loss,
        sl.logit_matching_loss,
    ),
)
sigmoid, log_sigmoid, logit_of, logit_of_log = map(jax.jit, (sl.sigmoid, sl.log_sigmoid, sl.logit, sl.logitexp))


@jax.jit
def there_and_back(x):
    return sl.softplus_inverse(sl.softplus(x))


def close(got, wanted, ulps=8, absolute=1e-37):
    np.testing.assert_allclose(got, wanted, rtol=ulps * EPS, atol=absolute)


@given(rows)
def test_probabilities(x):
    """Rows sum to 1, or to 0 where nothing is present; the order of the logits is kept, and ties are."""
    p = np.asarray(softmax(x))
    assert np.all((p >= 0) & (p <= 1))
    close(p.sum(), 1.0 if np.any(x > -np.inf) else 0.0)
    order = np.argsort(x, kind="stable")
    assert np.all(p[order][1:] >= p[order][:-1])
    assert p[np.argmax(x)] == p.max()
    log_p = np.asarray(log_softmax(x))
    assert np.all(log_p[order][1:] >= log_p[order][:-1])
    assert np.all(log_p <= 0)


@given(finite_rows, labels, st.floats(0, 100, width=32))
def test_monotone_in_each_logit(x, i, more):
    """A larger logit has no smaller probability, a smaller loss, and leaves no more to the others."""
    y = x.copy()
    y[i] += np.float32(more)
    before, after = np.asarray(softmax(x)), np.asarray(softmax(y))
    slack = 1 + 8 * EPS
    assert after[i] * slack >= before[i]
    others = np.arange(CLASSES) != i
    assert np.all(after[others] <= before[others] * slack)
    assert integer(y, i) <= integer(x, i) * slack
    assert logsumexp(y) >= logsumexp(x) - abs(logsumexp(x)) * 4 * EPS


@given(st.lists(far, min_size=2, max_size=50))
def test_elementwise_functions_are_monotone(x):
    """To rounding: none steps down by more than a few ulps."""
    x = jnp.sort(jnp.asarray(np.resize(np.float32(x), 50)))
    for f in (sl.sigmoid, sl.log_sigmoid, sl.softplus):
        y = np.asarray(jax.jit(f)(x))
        assert np.all(np.diff(y) >= -4 * EPS * np.abs(y[1:]))


@given(rows, labels, some_class)
def test_dense_is_integer_is_smoothed(x, label, where):
    """One-hot labels, the integer and no smoothing: one loss and one gradient, masked or not."""
    hot, where = np.eye(CLASSES, dtype=np.float32)[label], np.array(where) | (np.arange(CLASSES) == label)
    for options in ({}, {"where": where}):
        wanted, slope = integer(x, label, **options), integer_slope(x, label, **options)
        close(dense(x, hot, **options), wanted)
        close(dense_slope(x, hot, **options), slope)
        smoothed = {**options, "label_smoothing": 0.0}
        close(integer(x, label, **smoothed), wanted)
    log_p = log_prob(x, label)
    assert -log_p == integer(x, label) or np.isnan(log_p)


@given(finite_rows, labels, st.just(0.0) | st.floats(2**-40, 1, width=32))  # the product with a loss is not flushed
def test_smoothing_is_smoothing_the_labels(x, label, s):
    hot = np.eye(CLASSES, dtype=np.float32)[label]
    wanted = dense(x, sl.smooth_labels(hot, s))
    close(dense(x, hot, label_smoothing=s), wanted, 16)
    close(integer(x, label, label_smoothing=s), wanted, 16)


@given(finite_rows, shares)
def test_masked_is_left_out(x, y):
    """Masking the last class is not having it."""
    where = np.arange(CLASSES) < CLASSES - 1
    y = np.where(where, y, 0)  # a share of a masked class is lost, as an integer label on one is
    close(dense(x, y, where=where), dense(x[:-1], y[:-1]))
    close(softmax(x, where=where)[:-1], softmax(x[:-1]))
    absent = np.where(where, x, -np.inf)
    close(dense(absent, y), dense(x, y, where=where))


@given(st.one_of(finite, st.sampled_from([np.inf, -np.inf])), share)
def test_two_classes_are_a_sigmoid(x, y):
    """softmax([x, 0]) is sigmoid(x), and the cross entropies are equal; so are their gradients."""
    two, both = np.array([x, 0], np.float32), np.array([y, 1 - y], np.float32)
    close(softmax(two)[0], sigmoid(np.float32(x)))
    loss, slope = (f(np.float32(x), np.float32(y)) for f in (binary, binary_slope))
    close(dense(two, both), loss, 16)
    close(dense_slope(two, both)[0], slope, 16, EPS)
    for certain in (0, 1):
        loss, slope = (f(np.float32(x), certain) for f in (binary, binary_slope))
        close(integer(two, jnp.asarray(1 - certain)), loss)
        close(integer_slope(two, jnp.asarray(1 - certain))[0], slope)


@given(arrays(np.float32, CLASSES, elements=st.integers(-1000, 1000)), st.integers(-(2**20), 2**20), labels)
def test_shift_invariance(x, shift, label):
    """A constant added to every logit, exactly, changes nothing but the rounding, as exponentials are taken of the
    logits and not of their differences; logsumexp moves with it."""
    moved = x + np.float32(shift)
    close(softmax(moved), softmax(x), 4)
    close(integer(moved, label), integer(x, label), 4)
    close(integer_slope(moved, label), integer_slope(x, label), 4)
    close(logsumexp(moved), np.float64(logsumexp(x)) + shift, 1, 2048 * EPS)
    close(entropy(moved), entropy(x), 4)


FLUSHED = 4 * float(np.finfo(np.float32).tiny)  # of each class up to the smallest normal number


@given(rows, shares, labels)
def test_gradients_of_softmax_losses_sum_to_zero(x, y, label):
    """To the rounding of the largest, also where a label's class is absent."""
    for slope, shares in ((dense_slope(x, y), y.sum()), (integer_slope(x, label), 0)):
        slope = np.asarray(slope, np.float64)
        if np.all(np.isfinite(slope)):
            assert abs(slope.sum()) <= 8 * EPS * max(np.abs(slope).max(), shares) + FLUSHED
    assert not np.any(np.isnan(integer_slope(x, label)))


@given(st.floats(-87, 100, width=32, allow_subnormal=False))
def test_logit_and_sigmoid_invert_each_other(x):
    """Within what the type can hold: beyond, by way of the logarithm of the probability."""
    x = np.float32(x)
    p = sigmoid(x)
    spacing = EPS * float(p) / max(float(sigmoid(-x)) * float(p), 1e-38)  # an ulp of p, as a step of x
    if 0 < p < 1:
        close(logit_of(p), x, 8, 4 * spacing)
    if x < 87:
        close(logit_of_log(log_sigmoid(x)), x, 8, 8 * EPS)
    close(there_and_back(x), x, 8, 8 * EPS)


@given(st.floats(-FAR, -1, width=32))
def test_logitexp_inverts_beyond_the_probabilities(x):
    """sigmoid(-1e30) is 0 in every type; its logarithm is -1e30, and the logit comes back."""
    close(logit_of_log(log_sigmoid(np.float32(x))), np.float32(x))


@given(st.floats(2.0**-12, 1 - 2.0**-12, width=32))
def test_sigmoid_inverts_logit(p):
    close(sigmoid(logit_of(np.float32(p))), np.float32(p), 32)


@given(rows, finite_rows)
def test_divergences_are_not_negative(x, y):
    """KL >= 0, 0 for the same distribution; 0 <= entropy <= log n."""
    assert divergence(x, y) >= 0
    assert divergence(x, x) == 0
    assert 0 <= entropy(x) <= np.log(CLASSES) * (1 + 4 * EPS)


near = arrays(np.float32, CLASSES, elements=st.floats(-50, 50, width=32))


@given(rows, near)
def test_divergences_of_logits_and_of_probabilities(x, y):
    """Cross entropy is entropy and divergence, of targets and of their logs; the generalized one adds the excess."""
    log_q, log_t, t = log_softmax(y), log_softmax(x), softmax(x)
    size = np.abs(np.asarray(log_q)).max()
    close(kl(log_q, t), dense(y, t) - entropy(x), 8, 8 * EPS * size)
    close(kl_of_logs(log_q, log_t), kl(log_q, t), 8, 8 * EPS * size)
    close(distillation(y, x), kl(log_q, t), 8, 8 * EPS * size)
    some = np.any(x > -np.inf)
    close(generalized(log_q, t), kl(log_q, t) if some else 1, 8, 8 * EPS * size)
    if some:
        close(divergence(x, y), kl(log_q, t), 8, 8 * EPS * size)


@given(rows, rows, st.floats(0, 1, width=32, allow_subnormal=False))
def test_jensen_shannon(x, y, beta):
    """Not negative, at most the entropy of (beta, 1 - beta); bit for bit the same for exchanged distributions at 1/2,
    and to rounding for an exchanged beta; 0 for equal ones and for all weight on one."""
    log_p, log_q = log_softmax(x), log_softmax(y)
    value = js(log_p, log_q, beta=beta)
    assert js(log_p, log_q) == js(log_q, log_p)
    assert js(log_p, log_p, beta=beta) == 0
    assert js(log_p, log_q, beta=0) == 0 == js(log_p, log_q, beta=1)
    most = -(beta * np.log(beta) if beta > 0 else 0) - ((1 - beta) * np.log1p(-beta) if beta < 1 else 0)
    assert 0 <= value <= most * (1 + 16 * EPS) + FLUSHED
    assert js(log_p, log_q) <= np.log(2) * (1 + 4 * EPS)
    if beta >= 0.5:  # 1 - beta is exact
        close(js(log_q, log_p, beta=1 - np.float32(beta)), value, 16, FLUSHED)


@given(near, near, st.floats(2.0**-20, 2.0**-12, width=32))
def test_jensen_shannon_is_a_divergence_at_the_ends(x, y, beta):
    """KL(t || q) times a small beta, to an order of it, where the two are not far apart."""
    x, y = x / 64, y / 64
    log_t, log_q = log_softmax(x), log_softmax(y)
    np.testing.assert_allclose(js(log_q, log_t, beta=beta) / beta, divergence(x, y), rtol=8e-3, atol=1e-6)
    np.testing.assert_allclose(js(log_t, log_q, beta=1 - beta) / beta, divergence(x, y), rtol=8e-3, atol=1e-6)


@given(st.one_of(st.floats(-50, 50, width=32), st.sampled_from([np.inf, -np.inf])), st.floats(-50, 50, width=32))
def test_bernoulli_is_two_classes(x, y):
    """Not negative, and the divergence of [x, 0] from [y, 0]; the same for -x and -y."""
    x, y = np.float32(x), np.float32(y)
    two = [np.array([a, 0], np.float32) for a in (x, y)]
    value = bernoulli(x, y)
    assert value >= 0 == bernoulli(x, x)
    close(value, divergence(*two), 16, 16 * EPS * float(min(abs(x - y), 50)))
    close(bernoulli(-x, -y), value, 16, FLUSHED)


@given(near, near)
def test_hot_distillation_matches_logits(x, t):
    """The limit of a large temperature; a constant added to all logits of a row, exactly, changes nothing."""
    x, t = np.round(x) / 64, np.round(t) / 64
    wanted = matching(x, t)
    np.testing.assert_allclose(distillation(x, t, temperature=512), wanted, rtol=0.01)
    close(matching(x + 1024, t - 512), wanted, 0, 0)
    close(distillation(x + 1024, t - 512, temperature=3), distillation(x, t, temperature=3), 0, 0)
    assert matching(x, x) == 0 == distillation(x, x, temperature=3)
    where = np.arange(CLASSES) < CLASSES - 1  # masking the last class is not having it
    for f in (matching, distillation, js, generalized):
        close(f(x, abs(t), where=where), f(x[:-1], abs(t[:-1])))


@jax.jit
def both_modes(x, v, label):
    functions = (sl.logsumexp, sl.entropy_from_logits, lambda x: sl.log_prob_from_logits(x, label))
    return [(jax.jvp(f, (x,), (v,))[1], jax.grad(f)(x)) for f in functions]


@given(finite_rows, finite_rows, labels)
def test_forward_mode_is_reverse_mode(x, v, label):
    """<gradient, v> is the tangent along v, to the rounding of the largest product."""
    for forward, gradient in both_modes(x, v, label):
        reverse = np.sum(np.asarray(gradient, np.float64) * v)
        np.testing.assert_allclose(forward, reverse, atol=32 * EPS * np.abs(v).max(), rtol=0)


@given(finite_rows, some_class)
def test_masked_mean_is_the_mean_of_the_selected(x, where):
    where = np.array(where)
    np.testing.assert_allclose(mean(x, where=where), x[where].mean(dtype=np.float64), atol=8 * EPS * np.abs(x).max())
