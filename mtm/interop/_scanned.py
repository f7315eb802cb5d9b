"""T5X's scalable T5 (`examples/scalable_t5`), whose layers are scanned: an array holds all of them.

They lie along its second axis, as `param_scan_axis` has it there. Heads are not joined, and each
layer has relative positions of its own, as UMT5 has them, for which it was written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.families._names import Row, row
from mtm.families._published import complete
from mtm.families.umt5 import umt5
from mtm.interop import _slots, tree
from mtm.interop._base import Moments
from mtm.interop._slots import Source

BUILD = umt5

TOWERS = {
  "encoder": {"mixer": ("attention", "pre_attention_layer_norm")},
  "decoder": {
    "mixer": ("self_attention", "pre_self_attention_layer_norm"),
    "cross": ("encoder_decoder_attention", "pre_cross_attention_layer_norm"),
  },
}
LAST = ("out/kernel", "wo/kernel")  # of these `embed` is the last axis, of others the first


@dataclasses.dataclass(frozen=True)
class SecondAxis:
  """Layers along the second axis of theirs and the first of ours; see `Transform`."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(np.ascontiguousarray(np.moveaxis(x, 1, 0)) for x in theirs)

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(np.ascontiguousarray(np.moveaxis(x, 0, 1)) for x in ours)


def found(names: Iterable[str]) -> bool:
  """Whether these are the arrays of a scanned T5."""
  return any(name.startswith("target/encoder/encoder/") for name in names)


def arguments_of(source: Source) -> dict[str, Any]:
  """The arguments of `umt5` that shapes tell.

  Raises:
    UserError: an array is missing, or the layers lie along another axis.
  """

  def shape(name: str, rank: int) -> tuple[int, ...]:
    if name not in source.names() or len(source.shape(name)) != rank:
      raise UserError(f"{source.where} has no {name} of rank {rank}, as T5X's scanned T5 does")
    return source.shape(name)

  vocab, embed = shape("target/token_embedder/embedding", 2)
  depth = {}
  for tower, attentions in TOWERS.items():
    attention, norm = attentions["mixer"]
    width, depth[tower] = shape(f"target/{tower}/{tower}/{norm}/scale", 2)
    heads, layers, buckets = shape(f"target/{tower}/{tower}/relpos_bias/rel_embedding", 3)
    *_, head_dim = shape(f"target/{tower}/{tower}/{attention}/query/kernel", 4)
    if (width, layers) != (embed, depth[tower]):
      raise UserError(
        f"{source.where} has its layers along another axis than the second, which mtm does not read"
      )
  gated = "target/encoder/encoder/mlp/wi_0/kernel" in source.names()
  told = {
    "layers": depth["encoder"],
    "embed": embed,
    "heads": heads,
    "head_dim": head_dim,
    "mlp": shape(f"target/encoder/encoder/mlp/wi{'_0' if gated else ''}/kernel", 3)[2],
    "vocab": vocab,
    "activation": jax.nn.gelu if gated else jax.nn.relu,
    "gated": gated,
    "tied": "target/decoder/logits_dense/kernel" not in source.names(),
    "decoder_layers": depth["decoder"],
    "buckets": buckets,
  }
  return complete(umt5, told)


def rows(a: Mapping[str, Any]) -> list[Row]:
  """The name table of `umt5` with these arguments."""
  table = [row("tokens/embedding", "target/token_embedder/embedding")]
  parts = (*(("wi_0", "wi_1") if a["gated"] else ("wi",)), "wo")
  for tower, attentions in TOWERS.items():
    pairs = {
      "channel_norm/scale": "pre_mlp_layer_norm/scale",
      "mixer/position/rel_embedding": "relpos_bias/rel_embedding",
      **{f"channel/{part}/kernel": f"mlp/{part}/kernel" for part in parts},
    }
    for part, (attention, norm) in attentions.items():
      pairs[f"{part}_norm/scale"] = f"{norm}/scale"
      for projection in ("query", "key", "value", "out"):
        pairs[f"{part}/{projection}/kernel"] = f"{attention}/{projection}/kernel"
    for ours, theirs in pairs.items():
      table.append(
        row(f"{tower}/stack/period_0/{ours}", f"target/{tower}/{tower}/{theirs}", SecondAxis())
      )
    table.append(row(f"{tower}/final_norm/scale", f"target/{tower}/{tower}_norm/scale"))
  head = row("head/logits_dense/kernel", "target/decoder/logits_dense/kernel")
  return table if a["tied"] else [*table, head]


def moments(source: Source, table: Sequence[Row]) -> Callable[[str], tuple[np.ndarray, ...]]:
  """See `Moments.of`.

  Here the rules of T5X's Adafactor count: a kernel's `v_row` is an average over all axes but layers
  and `embed`, its `v_col` one over `embed`, whatever the sizes.
  """
  name_of = {path: one.theirs[0] for one in table for path in one.ours if _scanned(one)}
  unscanned = _slots.moments(source, table)

  def of(path: str) -> tuple[np.ndarray, ...]:
    if path not in name_of:
      return unscanned(path)
    name = name_of[path]
    layers = source.shape(name)[1]
    if source.slot(name, "v").size > 1:
      (values,) = SecondAxis().load(source.slot(name, "v"))
      return (_joined(path, values),)
    by_embed, others = source.slot(name, "v_row"), source.slot(name, "v_col")
    if path.endswith(LAST):
      return np.moveaxis(others, 1, 0).reshape(layers, -1), by_embed
    return by_embed.T, others.reshape(layers, -1)

  return of


def slots(moments: Moments, table: Sequence[Row], params: Any) -> _slots.Named:
  """The inverse of `moments`, see `_slots.slots`; of `params` only shapes count."""
  shapes = {path: tuple(leaf.shape) for path, leaf in tree.flatten(params).items()}
  for one in table:
    (path,), (name,) = one.ours, one.theirs
    if not _scanned(one):
      yield from _slots.named(name, *moments.of(path))
      continue
    found, shape = moments.of(path), shapes[path]
    if len(found) == 1:
      (values,) = SecondAxis().save(found[0].reshape(shape))
      yield from _slots.filled(name, {"v": values})
    elif path.endswith(LAST):
      others = found[0].reshape(shape[:-1])  # [layers, heads, head_dim] or [layers, mlp]
      yield from _slots.filled(name, {"v_row": found[1], "v_col": np.moveaxis(others, 0, 1)})
    else:
      others = found[1].reshape(shape[0], *shape[2:])
      yield from _slots.filled(name, {"v_row": found[0].T, "v_col": others})


def _scanned(one: Row) -> bool:
  return isinstance(one.transform, SecondAxis)


def _joined(path: str, values: np.ndarray) -> np.ndarray:
  """A projection's `[layers, ...]` as a matrix a layer."""
  if values.ndim < 4:
    return values
  if path.endswith("out/kernel"):
    return values.reshape(len(values), -1, values.shape[-1])
  return values.reshape(*values.shape[:2], -1)
