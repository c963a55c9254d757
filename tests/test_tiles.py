"""What XLA makes of the losses on hidden @ kernel: tiles of the logits, no copy of the kernel, no product too many."""

import re
from math import prod

import jax
import jax.numpy as jnp
import pytest
from hlo import entry, lines_from

import stablelogits_jax as sl

T, D, V = 512, 64, 16385  # classes that no tile divides; the kernel takes 4 MiB, all logits 32
TILE, ROWS = 128 * 512 * 4, 16 * V * 4  # a quarter of one, and one
ALL = {"ignore_index": -1, "label_smoothing": 0.1, "z_loss": 0.1, "soft_cap": 30.0}


def tokens(hidden, kernel, labels, **options):
    return jnp.sum(sl.linear_softmax_cross_entropy(hidden, kernel, labels, memory_limit=TILE, **options))


def rows(hidden, kernel, labels, **options):
    return sl.linear_softmax_cross_entropy_sum(hidden, kernel, labels, memory_limit=ROWS, **options)


def of_tiles(f, both, axis=-1, **options):
    """The compiled value, or value and slopes."""

    def of(hidden, kernel, labels):
        return f(hidden, kernel, labels, vocab_axis=axis, **options)

    size = (D, V) if axis == -1 else (V, D)
    shapes = [jax.ShapeDtypeStruct(s, t) for s, t in (((T, D), "float32"), (size, "float32"), ((T,), "int32"))]
    return jax.jit(jax.value_and_grad(of, (0, 1)) if both else of).lower(*shapes).compile()


def largest_array(text):
    """Its number of elements."""
    return max(prod(int(n) for n in dims.split(",")) for dims in re.findall(r"\w\d+\[([\d,]+)\]", text))


@pytest.mark.parametrize(("axis", "options"), [(-1, {}), (0, ALL)], ids=["plain", "all options"])
@pytest.mark.parametrize(("f", "products", "kept"), [(tokens, 4, 0), (rows, 3, ROWS)])
def test_memory_and_products(f, products, kept, axis, options):
    """Four products of matrices for value and slopes of each token, three of the sum; beside what the sum keeps of the
    logits some tiles, which together are less than the kernel."""
    for both in (False, True):
        program = of_tiles(f, both, axis, **options)
        text, memory = program.as_text(), program.memory_analysis()
        assert text is not None
        assert memory is not None
        assert largest_array(text) == D * V
        assert memory.temp_size_in_bytes <= (kept if both else 0) + 10 * TILE
        assert text.count(" dot(") == (products if both else 1)
        assert unguarded(text) == (0 if "ignore_index" in options else text.count(" dot("))


def unguarded(text):
    """The products that are taken whatever the numbers are: neither in a branch nor in a loop of unknown length."""
    follow = lambda line: " conditional(" not in line and (" while(" not in line or "known_trip_count" in line)  # noqa: E731
    return sum(" dot(" in line for line in lines_from(text, entry(text), follow))


def residuals(f, *args):
    """The bytes of what the pullback holds beside the arguments."""
    _, pull = jax.vjp(jax.jit(f), *args)
    given = {a.unsafe_buffer_pointer() for a in args}
    held = {a.unsafe_buffer_pointer(): a.nbytes for a in jax.tree.leaves(pull) if isinstance(a, jax.Array)}
    return sum(size for pointer, size in held.items() if pointer not in given)


def test_residuals():
    """Of the tokens' losses hidden in blocks and some numbers of each token and class; of their sum its slopes."""
    hidden, kernel, labels = jnp.zeros((T, D)), jnp.zeros((D, 2049)), jnp.zeros(T, int)
    for f, most in (
        (tokens, hidden.nbytes + 4 * (16 * T + kernel.shape[1])),
        (rows, hidden.nbytes + kernel.nbytes + 4 * T),
    ):
        assert residuals(lambda h, w, f=f: f(h, w, labels, **ALL), hidden, kernel) <= most
