"""Ways to lay a run out on a slice, and an estimate of each that needs no compiler.

The estimate only orders them: the best few are compiled, and judged by what was compiled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax

from mtm import axes
from mtm.scale.topology import Topology
from mtm.training import flops
from mtm.training.trainer import Trainer

# Of a block's values how many as large as its input are kept for the backward pass (2205.05198,
# equation 2, in bfloat16: 34 bytes a token and feature), and how much is computed again.
KEPT: Mapping[str | None, tuple[float, float]] = {
  None: (17.0, 0.0), "attention": (12.0, 0.1), "full": (1.0, 1.0),
}  # fmt: skip
ROOM = 0.85  # of a chip's memory an estimate may fill: the rest is for what it does not know


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A mesh, a policy of recomputation, and microbatches.

  Attributes:
    sizes: axis of the mesh → its size, those above 1.
    remat: name in `mtm.parts.remat`, or None.
    microbatches: of a batch.
    slices: over how many of them `data` lies.
    file: a shipped gin file that says all of it instead, or None.
  """

  sizes: Mapping[str, int]
  remat: str | None = "full"
  microbatches: int = 1
  slices: int = 1
  file: str | None = None

  @property
  def told(self) -> str:
    """In a few words."""
    mesh = " × ".join(f"{name} {size}" for name, size in self.sizes.items()) or "one device"
    parts = [self.file or mesh, f"remat {self.remat}" if self.remat else "no remat"]
    return ", ".join([*parts, f"{self.microbatches} microbatches"])

  def gin(self, batch_size: int) -> str:
    """A gin file that makes a run of it, given after the others."""
    lines = ["from __gin__ import dynamic_registration", "", "from mtm.parts import remat"]
    lines += [] if self.file else ["from mtm.sharding import mesh"]
    lines += ["", f"include '{self.file}'"] if self.file else []
    policy = f"@remat.{self.remat}()" if self.remat else "None"
    lines += ["", f"BATCH_SIZE = {batch_size}", f"MICROBATCHES = {self.microbatches}"]
    lines += [f"REMAT = {policy}"]
    if not self.file:
      sizes = {"data": 1, **self.sizes}
      lines += ["MESH = @mesh.mesh()", "mesh.mesh:"]
      lines += [f"  {name} = {size}" for name, size in sizes.items()]
      lines += [f"  dcn = {{'data': {self.slices}}}"] if self.slices > 1 else []
    return "\n".join(lines) + "\n"


class Facts(NamedTuple):
  """What an estimate must know of a run.

  Attributes:
    parameters: of the model.
    expert_parameters: those of them that have an axis of experts.
    state: bytes of parameters and optimizer for each parameter.
    layers: repetitions of the longest stack.
    depth: layers times width: what one token leaves if each layer keeps its input.
    vocab: of the logits.
    rows, tokens: of a batch, the latter of the longest feature.
    flops: of a step of the model.
  """

  parameters: int
  expert_parameters: int
  state: float
  layers: int
  depth: int
  vocab: int
  rows: int
  tokens: int
  flops: int


class Estimate(NamedTuple):
  """Bytes and seconds of a chip and step."""

  bytes: float
  seconds: float


def facts(trainer: Trainer) -> Facts:
  """Of a run, whatever its mesh."""
  shapes = trainer.shapes
  with axes.use(None):
    names = trainer.model.axes(trainer.batch)
  named = list(
    zip(
      jax.tree.leaves(names, is_leaf=lambda x: isinstance(x, tuple)),
      jax.tree.leaves(shapes.params),
      strict=True,
    )
  )
  held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((shapes.params, shapes.opt_state)))
  parameters = sum(x.size for _, x in named)
  rows, length = max((x.shape for x in trainer.batch.values()), key=lambda shape: shape[1])
  return Facts(
    parameters,
    sum(x.size for told, x in named if "expert" in told),
    held / parameters,
    max((x.shape[0] for told, x in named if told[:1] == ("layers",)), default=1),
    # A norm before each of a layer's two sublayers has a scale of the layer's width.
    max(sum(x.size for told, x in named if told == ("layers", "embed")) // 2, 1),
    trainer.model.vocab_size,
    rows,
    rows * length,
    flops.training_step(trainer.model.apply, trainer.objective, shapes.params, trainer.batch),
  )


def candidates(chips: int, slices: int, found: Facts) -> Iterator[Candidate]:
  """All that divide the chips and the batch.

  Args:
    chips: in all slices.
    slices: how many.
    found: of the run.
  """
  inside = chips // slices
  experts = _divisors(inside) if found.expert_parameters else [1]
  for tensor in (n for n in _divisors(inside) if n <= 16):
    for expert in (n for n in experts if inside % (tensor * n) == 0):
      rest = inside // tensor // expert
      for fsdp in _divisors(rest):
        data = slices * rest // fsdp
        rows, left = divmod(found.rows, data * fsdp * expert)
        if left:
          continue
        sizes = {"data": data, "fsdp": fsdp, "expert": expert, "tensor": tensor}
        cut = {name: size for name, size in sizes.items() if size > 1}
        for parts in (n for n in _divisors(rows) if n & (n - 1) == 0):
          for remat in KEPT:
            yield Candidate(cut, remat, parts, slices)


def estimate(candidate: Candidate, found: Facts, topology: Topology) -> Estimate:
  """What a candidate might take.

  Memory: the state as the mesh cuts it and gradients like parameters; two gathered copies of a
  layer; what each layer keeps of a microbatch; logits with their gradient. Time: products with what
  is computed again, or the gathers, sums and exchanges of each microbatch, whichever is more, and
  the sum over slices.
  """
  size = {"data": 1, "fsdp": 1, "expert": 1, "tensor": 1, **candidate.sizes}
  chip = topology.chip
  dense = found.parameters - found.expert_parameters
  shared = size["fsdp"] * size["tensor"]
  own = dense / shared + found.expert_parameters / (shared * size["expert"])
  whole = own * size["fsdp"]  # gathered over fsdp
  tokens = found.tokens / (size["data"] * size["fsdp"] * size["expert"])
  kept, again = KEPT[candidate.remat]
  held = own * (found.state + 4) + 2 * 2 * whole / found.layers
  part = tokens / candidate.microbatches
  held += part * (2 * found.depth * kept + 8 * found.vocab / size["tensor"])
  speed = topology.chips * chip.flops
  compute = found.flops * (1 + again / 3) / speed
  rate = 2 * chip.link * chip.dimensions
  passes = (3 if candidate.remat else 2) * candidate.microbatches
  wire = 2 * whole * passes * (size["fsdp"] > 1)
  wire += 4 * own * candidate.microbatches * (size["data"] > candidate.slices)
  links = wire / rate + 8 * 2 * found.depth * tokens * (size["tensor"] > 1) / (2 * chip.link)
  slow = 4 * own / chip.dcn if candidate.slices > 1 else 0.0
  return Estimate(held, max(compute, links) + 0.1 * min(compute, links) + slow)


def best(
  found: Facts, topology: Topology, count: int, limit: float | None = None
) -> list[Candidate]:
  """The candidates of which an estimate says that they fit, the quickest first.

  Args:
    found: of the run.
    topology: the slice.
    count: how many.
    limit: bytes of a chip; None: those of its kind.
  """
  limit = ROOM * (topology.chip.hbm if limit is None else limit)
  guessed = [
    (estimate(c, found, topology), c) for c in candidates(topology.chips, topology.slices, found)
  ]
  fitting = [(guess, c) for guess, c in guessed if guess.bytes <= limit]
  fitting.sort(key=lambda item: (item[0].seconds, item[0].bytes))
  return [candidate for _, candidate in fitting[:count]]


def pareto(points: Sequence[tuple[float, float] | None]) -> set[int]:
  """The numbers of those of which none other is better in both, of (seconds, bytes)."""
  known = [(point, number) for number, point in enumerate(points) if point is not None]
  return {
    number
    for point, number in known
    if not any(other != point and other[0] <= point[0] and other[1] <= point[1]
               for other, _ in known)
  }  # fmt: skip


def _divisors(number: int) -> list[int]:
  small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
  return sorted({*small, *(number // n for n in small)})
