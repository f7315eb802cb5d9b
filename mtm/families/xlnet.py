"""XLNet (1906.08237): an encoder with Transformer-XL's relative attention; its content stream."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.families import _encoder as encoder
from mtm.families._names import Row, linear, norm, row
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.parts.activations import gelu
from mtm.parts.attention import head_width
from mtm.parts.heads import TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, declare
from mtm.parts.mixers.relative import Relative
from mtm.parts.mlp import Mlp
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.stack import Block, PostNorm, Stack
from mtm.parts.transformer import Encoder, Model, Tower

# What the config calls `attn_type` → who sees whom.
PATTERNS: dict[str, Pattern] = {"bi": Full(), "uni": Causal()}


class TokensAndMask(Embed):
  """A token table, and the vector from which the query stream starts. No stream here reads it: it
  is kept so that a published file goes back whole."""

  def setup(self) -> None:
    super().setup()
    self.mask = declare(self, "mask", self.weight_init, (self.features,), ("embed",))


@dataclasses.dataclass(frozen=True)
class HeadsLast:
  """Theirs keeps the projection out of heads as `[embed, heads, head_dim]`, ours as `[heads,
  head_dim, embed]`."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(np.ascontiguousarray(np.moveaxis(x, 0, -1)) for x in theirs)

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(np.ascontiguousarray(np.moveaxis(x, -1, 0)) for x in ours)


@dataclasses.dataclass(frozen=True)
class Lone:
  """Theirs has two axes of size 1 before the vector that ours is."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(x.reshape(x.shape[-1]) for x in theirs)

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(x.reshape(1, 1, -1) for x in ours)


def xlnet(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  mlp: int | None = None,
  token_types: bool = True,
  mask_vector: bool = True,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  epsilon: float = 1e-12,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """An XLNet's content stream, with logits of the token at each position.

  That is the model that reads a text as it stands, for scores or fine-tuning; the query stream of
  its permuted objective and the memory of earlier texts are not built. Its vocabulary gives padding
  the id 5 and `<unk>` the id 0, which a model takes for padding where no segment ids say what is:
  batches need `encoder_segment_ids`, as the handle of `mtm.load` adds.

  Args:
    layers, embed, vocab, mlp, kernel, scan, remat, dtype: as in `mtm.families.bert.bert`.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    token_types: whether scores depend on two tokens being of one type. They do where a batch has
      `encoder_token_types`, of any number; without it all tokens are of one type.
    mask_vector: whether to hold the vector from which the query stream starts. Nothing reads it,
      but a published file has it, as it has the parameters of `token_types`.
    dropout: share dropped of embeddings and encodings of distances, attention probabilities, hidden
      layers, sublayer outputs and the last states.
    activation: of the feed-forward layer.
    epsilon: of the norms.
    pattern: who sees whom: `Full()`, or `Causal()` (`attn_type` "uni").
  """
  init, layer_norm = encoder.INIT, encoder.layer_norm(epsilon)
  mixer = Relative(
    heads, head_width(embed, heads), pattern, kernel, token_types, dropout=dropout,
    weight_init=init, out_init=init,
  )  # fmt: skip
  channel = Mlp(
    mlp or 4 * embed, activation, bias=True, dropout=dropout, weight_init=init, out_init=init
  )
  block = Block(mixer, channel, layer_norm, placement=PostNorm(), dropout=dropout)
  tower = Tower(Stack((block,), layers, scan, remat), dropout=dropout, final_dropout=True)
  table = TokensAndMask if mask_vector else Embed
  module = Encoder(table(vocab, embed, weight_init=init), tower, TiedHead(bias=True))
  return Model(module, ("encoder_input_tokens",), vocab, None, dtype)


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("untie_r", True)  # each layer has its own c, p and s
  theirs.expect("bi_data", False)
  theirs.expect("clamp_len", -1, 0)
  theirs.expect("same_length", False)
  theirs.expect("tie_word_embeddings", True)
  theirs.expect("use_mems_train", False)
  if theirs.get("use_mems_eval", True):
    theirs.expect("mem_len", None, 0)
  theirs.expect("attn_type", *PATTERNS)
  # A memory that is not used, and heads that are not built.
  theirs.ignore("mem_len", "reuse_len", "summary_last_dropout", "start_n_top", "end_n_top")
  embed, heads = theirs.get("d_model", 1024), theirs.get("n_head", 16)
  theirs.expect("d_head", head_width(embed, heads))
  return {
    "layers": theirs.get("n_layer", 24),
    "embed": embed,
    "heads": heads,
    "vocab": theirs.need("vocab_size"),
    "mlp": theirs.get("d_inner", 4096),
    "dropout": theirs.get("dropout", 0.1),
    "activation": theirs.activation("ff_activation", "gelu"),
    "epsilon": theirs.get("layer_norm_eps", 1e-12),
    "pattern": PATTERNS[theirs.get("attn_type", "bi")],
  }


def _config(a: Arguments) -> dict[str, Any]:
  kinds = [kind for kind, pattern in PATTERNS.items() if pattern == a["pattern"]]
  if not kinds:
    raise UserError(f"an XLNet with pattern {a['pattern']} has no config.json: it can say Full()"
                    " or Causal()")  # fmt: skip
  return {
    "n_layer": a["layers"], "d_model": a["embed"], "n_head": a["heads"],
    "d_head": head_width(a["embed"], a["heads"]), "d_inner": a["mlp"] or 4 * a["embed"],
    "vocab_size": a["vocab"], "dropout": a["dropout"], "ff_activation": name_of(a["activation"]),
    "layer_norm_eps": a["epsilon"], "attn_type": kinds[0], "untie_r": True, "mem_len": None,
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  if not (a["token_types"] and a["mask_vector"]):
    raise UserError(
      "a published XLNet holds what token_types=True and mask_vector=True make: a model without it"
      " cannot be written as one"
    )
  ours, theirs = f"{encoder.STACK}/mixer", "transformer.layer.{}.rel_attn"
  return [
    row("tokens/embedding", "transformer.word_embedding.weight"),
    row("tokens/mask", "transformer.mask_emb", Lone()),
    row(f"{ours}/query/kernel", f"{theirs}.q"),
    row(f"{ours}/key/kernel", f"{theirs}.k"),
    row(f"{ours}/value/kernel", f"{theirs}.v"),
    row(f"{ours}/distance/kernel", f"{theirs}.r"),
    row(f"{ours}/out/kernel", f"{theirs}.o", HeadsLast()),
    row(f"{ours}/content_bias", f"{theirs}.r_w_bias"),
    row(f"{ours}/distance_bias", f"{theirs}.r_r_bias"),
    row(f"{ours}/type_bias", f"{theirs}.r_s_bias"),
    row(f"{ours}/type_embedding", f"{theirs}.seg_embed"),
    *norm(f"{encoder.STACK}/mixer_norm", f"{theirs}.layer_norm"),
    *linear(f"{encoder.STACK}/channel/wi", "transformer.layer.{}.ff.layer_1"),
    *linear(f"{encoder.STACK}/channel/wo", "transformer.layer.{}.ff.layer_2"),
    *norm(f"{encoder.STACK}/channel_norm", "transformer.layer.{}.ff.layer_norm"),
    row("head/bias", "lm_loss.bias"),
  ]


HF = Published(
  "xlnet", ("XLNetLMHeadModel",), xlnet, _arguments, _config, _rows, "transformer.", (),
  encoder.tied("lm_loss", "transformer.word_embedding.weight"),
  {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 5},
)  # fmt: skip

# Without parameters that only token types, or nothing at all, gives a gradient.
EXAMPLES = [functools.partial(xlnet, 2, 16, 4, 40, mlp=24, token_types=False, mask_vector=False)]
