"""The device mesh: `data, fsdp, tensor, sequence, expert, stage`, size 1 where unused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh

from mtm.errors import UserError, nearest

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
  dcn: Mapping[str, int] | None = None,
) -> Mesh:
  """A mesh over all devices.

  Args:
    data, fsdp, tensor, sequence, expert, stage: sizes; at most one may be -1: all that is left.
    platform: `cpu`, `gpu` or `tpu`, which must then be there; None: JAX's default.
    devices: the devices to use; None: all of the platform.
    dcn: for several slices that a slower network joins: axis → into how many of its ways that
      network cuts it, a divisor of its size. The slices are the outer part of the axis: with
      `data=4, dcn={"data": 2}` every slice has two of the four. On CPU, which knows no slices, it
      is as if each had as many neighbouring devices as any other.

  Raises:
    UserError: the sizes do not multiply to the number of devices, `dcn` does not to that of the
      slices, or the platform is absent.
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
  outer = _outer(sizes, dcn or {}, found)
  if math.prod(outer) > 1:
    return Mesh(_hybrid(shape, outer, found), AXES)
  if found[0].platform == "cpu":  # no topology to follow
    return Mesh(np.asarray(found).reshape(shape), AXES)
  return Mesh(mesh_utils.create_device_mesh(shape, found, allow_split_physical_axes=True), AXES)


def _outer(
  sizes: Mapping[str, int], dcn: Mapping[str, int], found: Sequence[Any]
) -> tuple[int, ...]:
  """How many ways of each axis lie across slices. Raises UserError where they do not fit."""
  for name, ways in dcn.items():
    if name not in sizes:
      raise UserError(f"mesh dcn: unknown axis {name!r}{nearest(name, AXES)}")
    if ways < 1 or sizes[name] % ways:
      divisors = [n for n in range(1, sizes[name] + 1) if sizes[name] % n == 0]
      raise UserError(
        f"mesh dcn: {ways} slices do not divide {name} = {sizes[name]}; numbers that do:"
        f" {', '.join(map(str, divisors))}"
      )
  slices, asked = len(_slices(found)), math.prod(dcn.values())
  if found[0].platform != "cpu" and slices != asked:
    axis = next((name for name in AXES if sizes[name] % slices == 0), "data")
    fix = f"say which axes lie across them, such as dcn = {{{axis!r}: {slices}}}"
    raise UserError(
      f"mesh: the devices are in {slices} slices and dcn = {dict(dcn)} is for {asked}:"
      f" {fix if slices > 1 else 'leave dcn out'}"
    )
  return tuple(dcn.get(name, 1) for name in AXES)


def _slices(devices: Sequence[Any]) -> set[int]:
  """The numbers of the slices that the devices are in."""
  return {getattr(device, "slice_index", 0) or 0 for device in devices}


def _hybrid(shape: tuple[int, ...], outer: tuple[int, ...], found: Sequence[Any]) -> np.ndarray:
  """The devices in this shape, the `outer` part of each axis across slices."""
  inner = tuple(size // ways for size, ways in zip(shape, outer, strict=True))
  if found[0].platform != "cpu":
    return mesh_utils.create_hybrid_device_mesh(inner, outer, found, allow_split_physical_axes=True)
  both = np.asarray(found).reshape(*outer, *inner)
  turned = both.transpose([axis for i in range(len(shape)) for axis in (i, len(shape) + i)])
  return turned.reshape(shape)


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
