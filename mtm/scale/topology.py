"""Slices of TPU that are not here, by their names: `v5e:16x16`, `v5p:8x8x8`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mtm.errors import UserError, nearest
from mtm.scale.chips import CHIPS, Chip

EXAMPLES = {
  "v4": "v4:8x8x8", "v5e": "v5e:16x16", "v5p": "v5p:8x8x8", "v6e": "v6e:16x16",
  "tpu7x": "tpu7x:4x4x4",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Topology:
  """One slice, or several joined by the data-center network.

  Attributes:
    kind: of chip, a key of `CHIPS`.
    shape: chips in each direction of a slice.
    slices: how many.
  """

  kind: str
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def name(self) -> str:
    """As it is written: `v5p:8x8x8`, several slices as `2 × v5p:8x8x8`."""
    one = f"{self.kind}:{'x'.join(map(str, self.shape))}"
    return one if self.slices == 1 else f"{self.slices} × {one}"

  @property
  def chip(self) -> Chip:
    """What a device can do."""
    return CHIPS[self.kind]

  @property
  def chips(self) -> int:
    """In all slices."""
    return self.slices * math.prod(self.shape)

  def devices(self) -> Sequence[Any]:
    """JAX devices to compile for; nothing can run on them.

    Raises:
      UserError: libtpu is not installed, or knows no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
      raise UserError(
        f"compiling for {self.name} needs libtpu, which runs on any Linux machine: pip install"
        ' "mtm[tpu]"'
      )
    from jax.experimental.topologies import get_topology_desc

    chip = self.chip
    shape = "x".join(map(str, self.shape))
    try:
      with _alone():
        return get_topology_desc(
          platform="tpu", topology_name=f"{chip.platform}:{shape}", num_slices=self.slices,
          chip_config_name=chip.config, chips_per_host_bounds=self._host(),
        ).devices  # fmt: skip
    except Exception as error:  # XLA's own, of several kinds
      said = " ".join(str(error).split())[:160]
      raise UserError(
        f"libtpu knows no slice {self.name}: take a shape such as {EXAMPLES[self.kind]} ({said})"
      ) from error

  def _host(self) -> tuple[int, ...]:
    """Chips of a host; a slice smaller than one has fewer."""
    whole = (*self.shape, 1, 1)[:3]
    return tuple(min(a, b) for a, b in zip(self.chip.host, whole, strict=True))


def parse(name: str, slices: int = 1) -> Topology:
  """The topology of a name such as `v5p:8x8x8`.

  Args:
    name: kind of chip, and chips in each direction.
    slices: how many of them.

  Raises:
    UserError: an unknown kind, or no shape of its torus.
  """
  kind, _, shape = name.partition(":")
  if kind not in CHIPS:
    raise UserError(
      f"topology {name!r}: there is no TPU {kind!r}{nearest(kind, CHIPS)} Known:"
      f" {', '.join(EXAMPLES.values())}"
    )
  sizes = tuple(int(n) for n in shape.split("x")) if re.fullmatch(r"\d+(x\d+)*", shape) else ()
  if len(sizes) != CHIPS[kind].dimensions or 0 in sizes:
    raise UserError(
      f"topology {name!r}: a slice of {kind} has {CHIPS[kind].dimensions} directions, such as"
      f" {EXAMPLES[kind]}"
    )
  if slices < 1:
    raise UserError(f"slices = {slices}: there must be at least one")
  return Topology(kind, sizes, slices)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
  """Without asking about a TPU of this machine, and without libtpu's warnings of that."""
  quiet = {
    "TPU_SKIP_MDS_QUERY": "1", "TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3", "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nothing runs, so several processes may compile at once
  }  # fmt: skip
  for key, value in quiet.items():
    os.environ.setdefault(key, value)
  yield
