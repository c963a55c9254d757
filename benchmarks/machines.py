"""Machines that are not here, as XLA's compilers know them."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from numpy.typing import DTypeLike

jax.config.update("jax_platforms", "cpu")  # nothing is run; the other compilers are asked for by name
os.environ |= {
    "TPU_SKIP_MDS_QUERY": "1",  # libtpu need not look for the machine that it is on
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no device to share
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0",  # there is nothing to time on
}

MACHINES = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "tpu7x": "tpu7x:2x2x1", "H100": ""}
PUBLISHED = {  # by the maker, of a chip: bfloat16 flops and bytes of memory a second, bytes a second out of one port
    "v5e": (197e12, 819e9, 50e9),
    "v5p": (459e12, 2765e9, 100e9),
}
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 patch: 0 } runtime_version { major: 12 minor: 8 patch: 0 }
"""


@cache
def devices(topology: str) -> Sequence[Any]:
    """The devices of a TPU topology, or one H100."""
    if topology:
        return topologies.get_topology_desc(topology, platform="tpu").devices
    one = "1x1x1"
    return topologies.get_topology_desc(one, platform="cuda", topology=one, target_config=H100).devices


def mesh(topology: str, shape: tuple[int, int] = (1, 1)) -> Mesh:
    """A data axis and a model axis, laid on the topology so that what is near on an axis is near in it."""
    taken = devices(topology)[: shape[0] * shape[1]]
    return jax.make_mesh(shape, ("data", "model"), (AxisType.Auto,) * 2, devices=taken)


def argument(shape: tuple[int, ...], dtype: DTypeLike, on: Mesh, *split: str | None) -> jax.ShapeDtypeStruct:
    """An array that is not there, each of its axes split over a mesh axis or over none."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(on, PartitionSpec(*split)))
