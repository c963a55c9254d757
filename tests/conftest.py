"""Eight devices, and strictness, set once: no promotion of rank or type. Warnings are errors by pyproject.toml."""

import gc

import jax
import jax.numpy as jnp
import pytest

from stablelogits_jax.verify._measure import TYPES, float64_where_needed

gc.set_threshold(100_000, 20, 100)  # programs that are kept are a million objects, gone through again and again
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(params=TYPES)
def dtype(request):
    """Each float type, with JAX's 64-bit mode on for float64 only, as its users run it."""
    with float64_where_needed(request.param):
        yield jnp.dtype(request.param)
