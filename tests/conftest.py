"""Eight devices, and strictness, set once: no promotion of rank or type. Warnings are errors by pyproject.toml.

More than half of the suite's time is compilation, mostly of small programs, so no program is compiled twice, in one
process or in two, or cut in pieces to be compiled in threads. With JAX_COMPILATION_CACHE_DIR set, the next run finds
them too.
"""

import atexit
import gc
import os
import shutil
import tempfile

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # processes of pytest-xdist inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="stablelogits_jax-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_parallel_codegen_split_count=1"

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
