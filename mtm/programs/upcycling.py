"""Sparse upcycling (2212.05055): a trained dense model becomes one with experts, each a copy of its
feed-forward layer.

With weights that add up to 1 for each token, as those of a router that renormalises, and places
enough, the new model computes what the dense one did: its first loss is the dense model's.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from mtm.errors import UserError, nearest

Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, np.ndarray]
_LAYER = re.compile(r"(?P<stack>(?:.*/)?stack)/period_(?P<block>\d+)/(?P<rest>.*)")
_BANK = re.compile(r"(^|/)expert/")
_ROUTER = re.compile(r"(^|/)router/")


@dataclasses.dataclass(frozen=True)
class Upcycle:
  """What a model with experts takes of a dense checkpoint.

  A layer is found by its number from below, however the two models group layers into periods.
  Routers begin afresh.

  Attributes:
    noise: standard deviation of Gaussian noise on each expert's kernels, as a multiple of that of
      the dense kernel; 0: experts begin as equals, and only routing sets them apart.
    seed: of the noise.
  """

  noise: float = 0.0
  seed: int = 0

  def parameters(self, dense: Arrays, wanted: Shapes) -> Iterator[tuple[str, np.ndarray]]:
    """All parameters of the model with experts but its routers', one at a time.

    Args:
      dense: path → parameter of the dense model.
      wanted: path → shape of every parameter of the model with experts.

    Raises:
      UserError: the dense model lacks one, has it in another shape, or has one too many.
    """
    source, target = _blocks(dense), _blocks(wanted)
    used: set[str] = set()
    for name, shape in wanted.items():
      if _ROUTER.search(name):
        continue
      names, values = _found(name, shape, dense, source, target)
      used |= names
      yield name, self._apart(name, values) if _BANK.search(name) else values
    left = sorted(dense.keys() - used)
    if left:
      raise UserError(
        f"the dense checkpoint has {left[0]}, for which the model with experts has no place: their"
        " layers and sizes must be the same"
      )

  def _apart(self, name: str, values: np.ndarray) -> np.ndarray:
    """The experts `[layers, experts, ...]`, each with noise of its own."""
    if not self.noise or not name.endswith("/kernel"):
      return values
    rng = np.random.default_rng((self.seed, zlib.crc32(name.encode())))
    drawn = rng.standard_normal(values.shape, np.float32)
    return values + self.noise * values.std(dtype=np.float32) * drawn


def _blocks(params: Mapping[str, object]) -> dict[str, int]:
  """Stack → the number of blocks of its period."""
  found: dict[str, int] = {}
  for name in params:
    place = _LAYER.fullmatch(name)
    if place is not None:
      found[place["stack"]] = max(found.get(place["stack"], 0), int(place["block"]) + 1)
  return found


def _found(
  name: str, shape: tuple[int, ...], dense: Arrays, source: dict[str, int], target: dict[str, int]
) -> tuple[set[str], np.ndarray]:
  """The dense parameters that one is made of, and its values in the shape wanted."""
  place = _LAYER.fullmatch(name)
  if place is None:
    return {name}, _fitted(name, _get(dense, name), shape)
  stack, rest, names = place["stack"], _BANK.sub(r"\1", place["rest"]), set()
  layers = []
  for repeat in range(shape[0]):
    layer = repeat * target[stack] + int(place["block"])
    blocks = source.get(stack, 1)
    theirs = f"{stack}/period_{layer % blocks}/{rest}"
    stacked = _get(dense, theirs)
    if layer // blocks >= len(stacked):
      raise UserError(
        f"the dense checkpoint has {len(stacked) * blocks} layers in {stack}, and the model with"
        f" experts more: they must have as many"
      )
    names.add(theirs)
    layers.append(stacked[layer // blocks])
  values = np.stack(layers)
  if _BANK.search(place["rest"]):
    values = np.broadcast_to(values[:, None], (*values.shape[:1], shape[1], *values.shape[1:]))
  return names, _fitted(name, values, shape)


def _get(dense: Arrays, name: str) -> np.ndarray:
  if name not in dense:
    raise UserError(f"the dense checkpoint has no {name}{nearest(name, dense)}")
  return dense[name]


def _fitted(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  if values.shape != shape:
    raise UserError(
      f"{name} is {values.shape} as made of the dense checkpoint and {shape} in the model with"
      " experts: give both the same sizes"
    )
  return values
