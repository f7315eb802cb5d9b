"""The device mesh: `data, fsdp, tensor, sequence, expert, stage`, size 1 where unused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh

from mtm.errors import UserError

AXES = ("stage", "data", "fsdp", "expert", "sequence", "tensor")


def mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  sequence: int = 1,
  expert: int = 1,
  stage: int = 1,
  platform: str | None = None,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """A mesh over all devices.

  Args:
    data, fsdp, tensor, sequence, expert, stage: sizes; at most one may be -1: all that is left.
    platform: `cpu`, `gpu` or `tpu`, which must then be there; None: JAX's default.
    devices: the devices to use; None: all of the platform.

  Raises:
    UserError: the sizes do not multiply to the number of devices, or the platform is absent.
  """
  sizes = {"stage": stage, "data": data, "fsdp": fsdp, "expert": expert, "sequence": sequence,
           "tensor": tensor}  # fmt: skip
  found = list(devices) if devices is not None else _devices(platform)
  for name, size in sizes.items():
    if size == 0 or size < -1:
      raise UserError(f"mesh axis {name} = {size}: must be at least 1, or -1 for all that is left")
  free = [name for name, size in sizes.items() if size == -1]
  if len(free) > 1:
    raise UserError(f"mesh axes {' and '.join(free)} are both -1: only one can take what is left")
  fixed = math.prod(size for size in sizes.values() if size != -1)
  if free and len(found) % fixed == 0:
    sizes[free[0]] = len(found) // fixed
  if math.prod(sizes.values()) != len(found):
    said = " × ".join(f"{name}={size}" for name, size in sizes.items() if size != 1) or "data=1"
    divisors = [n for n in range(1, len(found) + 1) if len(found) % n == 0]
    raise UserError(
      f"mesh {said} does not fit {len(found)} {found[0].platform} devices: the sizes must"
      f" multiply to {len(found)}, each one of {', '.join(map(str, divisors))}"
    )
  shape = tuple(sizes[name] for name in AXES)
  if found[0].platform == "cpu":  # no topology to follow
    return Mesh(np.asarray(found).reshape(shape), AXES)
  return Mesh(mesh_utils.create_device_mesh(shape, found, allow_split_physical_axes=True), AXES)


def _devices(platform: str | None) -> list[Any]:
  """All devices of the platform; the accelerator that was asked for, or an error."""
  try:
    return jax.devices(platform)
  except (RuntimeError, AssertionError) as error:  # the latter when JAX finds no platform at all
    there = ", ".join(sorted({d.platform for d in _default_devices()})) or "none"
    wanted = platform or f"JAX_PLATFORMS={jax.config.values['jax_platforms']}"
    said = " ".join(str(error).split())[:120] or "JAX finds no device"
    raise UserError(
      f"the accelerator asked for ({wanted}) is not there; JAX sees: {there}. Install the jax"
      f" build for it, or drop the request ({said})"
    ) from error


def _default_devices() -> list[Any]:
  try:
    return jax.devices()
  except (RuntimeError, AssertionError):
    return []
