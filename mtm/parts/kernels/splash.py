"""The block-sparse Pallas kernel for TPUs that ships with JAX, given our patterns.

`jax.experimental.pallas.ops.tpu.splash_attention` skips empty blocks and masks partial ones; its
backward pass recomputes. Each device runs it on its own examples and heads.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtm import axes
from mtm.parts.kernels._choose import Request
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._tiles import NONE, split, tiles
from mtm.parts.patterns.segment import SameSegment

_LANES = 128  # keys in a block must be a multiple


@dataclasses.dataclass(frozen=True)
class Splash:
  """Softmax in float32 over the key blocks that the pattern touches.

  Attributes:
    block: places in a block, a multiple of 128; for shorter sequences it is the next one above.
    interpret: runs the kernel's program in Python, slowly, on any platform: for tests.
  """

  block: int = 512
  interpret: bool = False

  def supports(self, request: Request) -> str | None:
    """On TPUs: any positional pattern, and segments."""
    if not self.interpret and not axes.is_for("tpu"):
      return f"it is for TPUs, and this program is for a {axes.platform()}"
    if not request.aligned:
      return "queries and keys must stand at 0, 1, 2, ..."
    if request.bias is not None:
      return "it adds no bias"
    if request.dropout is not None and request.dropout[1] > 0:
      return "it drops no probabilities"
    pattern, rest = split(request.pattern)
    if rest is not None and rest != SameSegment():
      return f"of a pattern's labels it knows segments alone, and here is {rest}"
    if rest is not None and not _sees_itself(pattern, request.q.shape[1], request.k.shape[1]):
      return "with segments every query must see its own place, or some may see nothing"
    return None

  def cost(self, request: Request) -> float:
    """Not measured: it reads each block once and stores no scores."""
    pattern, _ = split(request.pattern)
    lengths = request.q.shape[1], request.k.shape[1]
    return 0.2 * float((tiles(pattern, *lengths, self._block(*lengths)).map > 0).mean()) + 0.01

  def __call__(self, request: Request) -> jax.Array:
    pattern, rest = split(request.pattern)
    q_len, k_len = request.q.shape[1], request.k.shape[1]
    block = self._block(q_len, k_len)
    run = functools.partial(self._run, pattern, k_len, block)
    heads = ("batch", "heads", None, None)
    arrays = [_cut(request.q * request.scale, block), _cut(request.k, block)]
    arrays.append(_cut(request.v, block))
    names: list[Any] = [heads, ("batch", "kv_heads", None, None), ("batch", "kv_heads", None, None)]
    if rest is not None:
      for label in request.labels["segment"]:
        arrays.append(jnp.pad(label, ((0, 0), (0, -label.shape[1] % block))))
        names.append(("batch", None))
    out = jnp.swapaxes(axes.local(run, arrays, names, heads), 1, 2)[:, :q_len]
    seen = _sees_anything(pattern, q_len, k_len)
    if not seen.all():
      out = jnp.where(seen[None, :, None, None], out, 0)
    if rest is not None:
      out = jnp.where(request.labels["segment"][0][:, :, None, None] > 0, out, 0)
    return out.astype(request.q.dtype)

  def _run(
    self, pattern: Pattern, k_len: int, block: int, q: Any, k: Any, v: Any, *segments: Any
  ) -> jax.Array:
    """`[batch, heads, queries, head_dim]`, lengths in whole blocks; of the examples and heads that
    this device has."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
      splash_attention_kernel as splash,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    mask = _mask(pattern, q.shape[2], k.shape[2], k_len, block)
    mask = masks.MultiHeadMask([mask] * q.shape[1])
    sizes: Any = dict.fromkeys(_SIZES, block)
    kernel = splash.make_splash_mha(
      mask,
      block_sizes=splash.BlockSizes(**sizes),
      head_shards=1,
      q_seq_shards=1,
      interpret=self.interpret,
    )
    if not segments:
      return jax.vmap(kernel)(q, k, v)
    return jax.vmap(kernel)(q, k, v, splash.SegmentIds(*segments))

  def _block(self, q_len: int, k_len: int) -> int:
    """The block size for these lengths."""
    shortest = min(q_len, k_len)
    return min(self.block, -(-shortest // _LANES) * _LANES)


_SIZES = (
  "block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv",
  "block_kv_dkv_compute", "block_q_dq", "block_kv_dq",
)  # fmt: skip


def _cut(x: jax.Array, block: int) -> jax.Array:
  """`[batch, length, heads, width]` → `[batch, heads, length in whole blocks, width]`."""
  return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, -x.shape[1] % block), (0, 0)))


@functools.lru_cache(maxsize=64)
def _mask(pattern: Pattern, queries: int, keys: int, real: int, block: int) -> Any:
  """`pattern` as splash's mask of `queries` × `keys`, which it reads in whole blocks; of the keys
  the first `real` are no padding."""
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

  cut = tiles(pattern, queries, real, block)
  ids = np.full((queries // block, keys // block), NONE)
  ids[cut.row, cut.column] = cut.mask_id

  class PatternMask(masks.Mask):
    """Equal objects are one object here, so identity compares and hashes them."""

    @property
    def shape(self) -> tuple[int, int]:
      return (queries, keys)

    def __getitem__(self, index: Any) -> np.ndarray:
      rows, columns = (part.indices(n) for n, part in zip(self.shape, index, strict=True))
      down, along = (slice(*(edge // block for edge in x[:2])) for x in (rows, columns))
      parts = cut.masks[ids[down, along]]
      return np.swapaxes(parts, 1, 2).reshape(parts.shape[0] * block, parts.shape[1] * block)

  return PatternMask()


@functools.lru_cache(maxsize=64)
def _sees_anything(pattern: Pattern, q_len: int, k_len: int) -> np.ndarray:
  """Which queries see any key, bool `[queries]`."""
  block = 256
  cut = tiles(pattern, q_len, k_len, block)
  seen = np.zeros((cut.map.shape[0], block), bool)
  some = np.asarray(cut.masks.any(axis=2))
  np.logical_or.at(seen, cut.row, some[cut.mask_id])
  return seen.reshape(-1)[:q_len]


def _sees_itself(pattern: Pattern, q_len: int, k_len: int) -> bool:
  if q_len > k_len:
    return False
  place = np.arange(q_len)
  return bool(np.asarray(pattern.mask(place, place)).all())


EXAMPLES = [Splash(), Splash(block=128, interpret=True)]
