"""One loss by two roads, for all inputs: modulated losses without their modulation, dense and integer labels, z-losses,
pairs in any order, capped and ordered logits. Hypothesis looks for an input where they part."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_invariants import CLASSES, EPS, close, finite_rows, labels, rows, shares, some_class

import stablelogits_jax as sl


def with_slope(f):
    return jax.jit(jax.value_and_grad(f))


dense, integer, focal, hard_focal, poly = map(
    with_slope,
    (
        sl.softmax_cross_entropy,
        sl.softmax_cross_entropy_with_integer_labels,
        sl.softmax_focal_loss,
        sl.softmax_focal_loss_with_integer_labels,
        sl.poly_loss_cross_entropy,
    ),
)
static_focal, static_hard_focal = (
    with_slope(partial(f, gamma=0.0)) for f in (sl.softmax_focal_loss, sl.softmax_focal_loss_with_integer_labels)
)
static_poly = with_slope(partial(sl.poly_loss_cross_entropy, epsilon=0.0))
alone = jax.jit(sl.z_loss)
dense_by_z, integer_by_z = (
    jax.jit(jax.grad(lambda z, x, y, f=f, **options: f(x, y, z_loss=z, **options)))
    for f in (sl.softmax_cross_entropy, sl.softmax_cross_entropy_with_integer_labels)
)
info_nce, contrastive = map(jax.jit, (sl.info_nce_loss, sl.sigmoid_contrastive_loss))
ordinal = jax.jit(jax.value_and_grad(sl.ordinal_cross_entropy, (0, 2)))
binary = with_slope(sl.sigmoid_binary_cross_entropy)

binary_focal = with_slope(lambda x, y, gamma: sl.sigmoid_focal_loss(x, y, gamma=gamma))
static_binary_focal = with_slope(partial(sl.sigmoid_focal_loss, gamma=0.0))

ZERO = np.float32(0)
smoothing = st.just(0.0) | st.floats(2**-20, 1, width=32)
class_weights = arrays(np.float32, CLASSES, elements=st.floats(2**-10, 2**10, width=32))
options = st.just({}) | st.fixed_dictionaries(
    {
        "where": some_class.map(np.array),
        "label_smoothing": smoothing.map(np.float32),
        "weights": class_weights,
    }
)
gammas = st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(2**-10, 8, width=32)


def keeping(options, label):
    """The label on a masked class is lost, and so is its share, but the slopes of an infinite loss differ."""
    return options and {**options, "where": options["where"] | (np.arange(CLASSES) == label)}


def agree(got, wanted, ulps=16, term=2.0**-60):
    """In value, and in slope to the rounding of its largest entry, or term, as its terms are of either sign."""
    close(got[0], wanted[0], ulps)
    size = np.maximum(np.abs(wanted[1]), term)
    close(got[1], wanted[1], ulps, ulps * EPS * float(np.max(size, initial=2.0**-60, where=np.isfinite(size))))


@given(rows, shares, labels, options)
def test_focal_without_focus_is_cross_entropy(x, y, label, options):
    rare = np.asarray(sl.softmax(x, where=options.get("where"))) <= 0.5
    given = np.maximum(y, options.get("label_smoothing", 0)) * options.get("weights", 1)
    wanted, term = dense(x, y, **options), np.max(given, where=rare, initial=0)  # Y p - y cancels, but for a hot class
    agree(static_focal(x, y, **options), wanted, term=term)
    agree(focal(x, y, gamma=ZERO, **options), wanted, term=term)
    wanted = integer(x, label, **options)
    agree(static_hard_focal(x, label, **options), wanted)
    agree(hard_focal(x, label, gamma=ZERO, **options), wanted)


@given(rows.map(lambda x: x[0]), st.floats(0, 1, width=32))
def test_binary_focal_without_focus_is_cross_entropy(x, y):
    for label in (np.float32(y), np.float32(round(y))):
        agree(static_binary_focal(x, label), binary(x, label))
        agree(binary_focal(x, label, ZERO), binary(x, label))


@given(rows, shares, labels, class_weights)
def test_class_weights_multiply_the_labels(x, y, label, weights):
    agree(dense(x, y, weights=weights), dense(x, y * weights))
    agree(integer(x, label, weights=weights), [weights[label] * a for a in integer(x, label)])


@given(rows, shares, some_class)
def test_poly_without_its_term_is_cross_entropy(x, y, where):
    wanted = dense(x, y, where=np.array(where))
    agree(static_poly(x, y, where=np.array(where)), wanted)
    agree(poly(x, y, epsilon=ZERO, where=np.array(where)), wanted)


@given(rows, labels, gammas, options)
def test_dense_focal_is_integer(x, label, gamma, options):
    hot, options = np.eye(CLASSES, dtype=np.float32)[label], keeping(options, label)
    agree(focal(x, hot, gamma=np.float32(gamma), **options), hard_focal(x, label, gamma=np.float32(gamma), **options))


@given(finite_rows, shares, gammas, smoothing, some_class)
def test_smoothing_focal_is_smoothing_the_labels(x, y, gamma, s, where):
    gamma, s, where = np.float32(gamma), np.float32(s), np.array(where)
    wanted = focal(x, sl.smooth_labels(np.where(where, y, 0), s, where=where), gamma=gamma, where=where)
    smoothed = focal(x, np.where(where, y, 0), gamma=gamma, label_smoothing=s, where=where)
    agree(smoothed, wanted, term=np.sum(y, where=where) / CLASSES)  # of the classes' p h' shares


@given(finite_rows, shares, labels)
def test_a_high_cap_is_none(x, y, label):
    agree(dense(x, y, soft_cap=np.float32(2**60)), dense(x, y))
    agree(integer(x, label, soft_cap=np.float32(2**60)), integer(x, label))


@given(rows, labels, st.floats(2**-4, 2**10, width=32), options)
def test_dense_capped_is_integer(x, label, cap, options):
    hot, options = np.eye(CLASSES, dtype=np.float32)[label], keeping(options, label)
    agree(dense(x, hot, soft_cap=np.float32(cap), **options), integer(x, label, soft_cap=np.float32(cap), **options))


@given(rows, labels, st.sampled_from([0.0, 2.0**-10, 1.0]), options)
def test_z_loss_is_the_same_in_all_forms(x, label, z, options):
    """Its slope in the factor is the z-loss alone, with all digits, also where another class than the label is sure."""
    hot, options = np.eye(CLASSES, dtype=np.float32)[label], keeping(options, label)
    wanted = alone(x, where=options["where"]) if options else alone(x)
    close(dense_by_z(np.float32(z), x, hot, **options), wanted)
    close(integer_by_z(np.float32(z), x, label, **options), wanted)


eighths = arrays(np.float32, (4, 2), elements=st.integers(-64, 64).map(lambda i: i / 8))


@given(eighths, eighths, st.permutations(range(4)))
def test_pairs_have_no_order(queries, keys, order):
    """A contrastive loss goes with its pair; those that are sigmoids add up to the same from either side."""
    order = np.array(order)
    for loss in (info_nce, contrastive):
        close(loss(queries[order], keys[order]), loss(queries, keys)[order])
    close(contrastive(queries, keys).sum(), contrastive(keys, queries).sum())


@given(eighths, eighths)
def test_contrastive_losses_are_cross_entropies(queries, keys):
    """Of the products, which are exact."""
    products, own = queries @ keys.T, np.eye(4, dtype=np.float32)
    for i in range(4):
        close(info_nce(queries, keys, temperature=np.float32(0.5))[i], integer(products[i] * 2, i)[0])
    terms = [[binary(a - 1, y)[0] for a, y in zip(*row, strict=True)] for row in zip(products, own, strict=True)]
    close(contrastive(queries, keys, scale=np.float32(1), bias=np.float32(-1)), np.sum(terms, 1))


sixteenths = st.integers(-(2**20), 2**20).map(lambda i: np.float32(i / 16))


@given(sixteenths | st.sampled_from([np.float32(np.inf), np.float32(-np.inf)]), sixteenths, st.integers(0, 1))
def test_two_ordered_classes_are_a_sigmoid(x, c, label):
    """Of the distance from the one cutpoint, which is exact."""
    loss, (slope, of_cutpoint) = ordinal(x, label, jnp.array([c]))
    wanted, wanted_slope = binary(x - c, np.float32(label))
    close(loss, wanted)
    close(slope, wanted_slope)
    close(of_cutpoint[0], -wanted_slope)


@given(sixteenths, st.sets(sixteenths, min_size=3, max_size=3))
def test_ordered_classes_share_a_probability_of_one(x, cutpoints):
    c = np.array(sorted(cutpoints), np.float32)
    losses = np.array([ordinal(x, label, c)[0] for label in range(4)], np.float64)
    assert losses.min() >= 0
    close(np.exp(-losses).sum(), 1.0)
