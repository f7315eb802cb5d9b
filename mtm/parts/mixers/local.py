"""Local attention in a ring of chunks: Reformer's (2001.04451), where tokens see both ways."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.dropout import Dropout
from mtm.parts.linear import Dense, Initializer
from mtm.parts.mixers._chunks import HIDDEN, around, cut, facts, sees
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.full import Full


class Local(nn.Module):
  """A token attends to its chunk and some of its neighbours, and the row's ends are neighbours.

  That ring is all that distinguishes it from `Attention` under the pattern `Chunks`, which decoders
  take: where time runs, nobody sees across the ends. A row of no more than a chunk is attended to
  in full, and one of fewer chunks than the window meets some of them twice, as in the original. A
  packed document sees itself only, but its chunks are those of the row. There is no cache.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    chunk: tokens of a chunk.
    before, after: neighbouring chunks that are seen too.
    multiple: rows are padded to a multiple of it, itself one of `chunk`; None: of `chunk`.
    pattern: who sees whom within the window.
    dropout: share of attention probabilities dropped in training.
    weight_init, out_init: kernel initialisers; None is fan-in.
  """

  heads: int
  head_dim: int
  chunk: int = 64
  before: int = 1
  after: int = 0
  multiple: int | None = None
  pattern: Pattern = Full()
  dropout: float = 0.0
  weight_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape. Raises UserError in decoding with a cache, and
    where positions add a bias to the scores."""
    if context.slots is not None:
      raise UserError(
        "attention in a ring of chunks has no cache: decode with Attention and the pattern Chunks"
      )
    if context.bias is not None:
      raise UserError("attention in a ring of chunks knows no bias: take positions that embed")
    length, chunk = x_BLD.shape[1], self.chunk
    whole = length <= chunk
    size = length if whole else chunk
    padding = 0 if whole else -length % (self.multiple or chunk)
    q_BHCQK, k_BHCQK, v_BHCQK = (
      cut(self._project(x_BLD, name, padding), size) for name in ("query", "key", "value")
    )
    before, after = (0, 0) if whole else (self.before, self.after)
    k_BHCSK, v_BHCSK = (around(x, before, after) for x in (k_BHCQK, v_BHCQK))
    of_q = jax.tree.map(lambda x: cut(x, size), facts(context, length, padding))
    of_k = jax.tree.map(lambda x: around(x, before, after), of_q)
    s_BHCQS = self.head_dim**-0.5 * jnp.einsum(
      "bhcqk,bhcsk->bhcqs", q_BHCQK, k_BHCSK, preferred_element_type=jnp.float32
    )
    p_BHCQS = jax.nn.softmax(jnp.where(sees(self.pattern, of_q, of_k), s_BHCQS, HIDDEN), axis=-1)
    p_BHCQS = Dropout(self.dropout, name="probabilities")(p_BHCQS, context.train)
    y_BHCQK = jnp.einsum("bhcqs,bhcsk->bhcqk", p_BHCQS.astype(v_BHCSK.dtype), v_BHCSK)
    y_BHNK = y_BHCQK.reshape(*y_BHCQK.shape[:2], -1, self.head_dim)
    y_BLHK = jnp.swapaxes(y_BHNK[:, :, :length], 1, 2)
    y_BLHK = constrain(y_BLHK, "batch", "length", "heads", "head_dim")
    axes = ("heads", "head_dim", "embed")
    out = Dense((x_BLD.shape[-1],), axes, contract=2, weight_init=self.out_init, name="out")
    return out(y_BLHK), Aux()

  def _project(self, x_BLD: jax.Array, name: str, padding: int) -> jax.Array:
    """`[batch, length, embed]` → `[batch, heads, tokens, head_dim]`, padded at the end."""
    axes = ("embed", "heads", "head_dim")
    dense = Dense((self.heads, self.head_dim), axes, weight_init=self.weight_init, name=name)
    x_BLHK = constrain(dense(x_BLD), "batch", "length", "heads", "head_dim")
    return jnp.pad(jnp.swapaxes(x_BLHK, 1, 2), ((0, 0), (0, 0), (0, padding), (0, 0)))


EXAMPLES = [Local(4, 4, chunk=2), Local(2, 8, chunk=3, before=0, after=1, multiple=6)]
