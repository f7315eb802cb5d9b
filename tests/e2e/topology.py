"""Chips of a TPU that is not here, for which `libtpu` compiles."""

from __future__ import annotations

import os

import pytest
from jax.sharding import Mesh

from mtm.sharding.mesh import mesh


def v5e(name: str, **sizes: int) -> Mesh:
  """A mesh of these sizes over a v5e slice such as `4x4`; skips where there is no `libtpu`."""
  pytest.importorskip("libtpu")
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask
  from jax.experimental.topologies import get_topology_desc

  devices = get_topology_desc(
    platform="tpu", topology_name=f"v5e:{name}", chip_config_name="default",
    chips_per_host_bounds=(2, 2, 1), num_slices=1,
  ).devices  # fmt: skip
  return mesh(devices=devices, **sizes)
