"""GPT-Neo (Black et al., 2021): a GPT-2 whose layers see all that came before or a window of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.errors import UserError
from mtm.families._names import Row, every, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.window import Window
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower

GLOBAL, LOCAL = "global", "local"  # what a config calls a layer without and with a window
Windows = tuple[int | None, ...]


def gpt_neo(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  windows: Windows = (None, 256),
  max_length: int = 2048,
  mlp: int | None = None,
  dropout: float = 0.0,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  epsilon: float = 1e-5,
  pattern: Pattern = Causal(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A GPT-Neo.

  Args:
    layers: number of layers, a multiple of the number of windows.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    windows: for each layer of the period that is repeated, how many tokens a query sees of those
      that `pattern` shows it, itself and those just before; None: all.
    max_length: the longest sequence.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    dropout: share dropped of embeddings, attention probabilities and sublayer outputs.
    activation: of the feed-forward layer.
    epsilon: of the norms.
    pattern: who sees whom.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.

  Raises:
    UserError: the layers are no whole number of periods, or a window shows nothing.
  """
  if not windows or layers % len(windows):
    raise UserError(f"layers = {layers} is no multiple of the {len(windows)} windows = {windows}")
  if any(size is not None and size < 1 for size in windows):
    raise UserError(f"windows = {windows}: a window of at least 1 token shows the query itself")
  init = normal(0.02)
  layer_norm = functools.partial(LayerNorm, epsilon=epsilon)

  def block(window: int | None) -> Block:
    near = pattern if window is None else pattern & Window(window - 1, 0)
    mixer = Attention(
      heads, head_width(embed, heads), pattern=near, kernel=kernel, scale=1.0, bias=("out",),
      dropout=dropout, weight_init=init, out_init=init,
    )  # fmt: skip
    channel = Mlp(mlp or 4 * embed, activation, bias=True, weight_init=init, out_init=init)
    return Block(mixer, channel, layer_norm, dropout=dropout)

  tower = Tower(
    Stack(tuple(block(window) for window in windows), layers // len(windows), scan, remat),
    position=Learned(max_length, embed),
    final_norm=layer_norm,
    dropout=dropout,
  )
  module = Decoder(Embed(vocab, embed, weight_init=init), tower, TiedHead())
  return Model(module, ("decoder_input_tokens",), vocab, max_length, dtype)


def _windows(theirs: Config, layers: int) -> Windows:
  """The period that the layers of a config repeat. Raises UserError where they repeat none."""
  groups = theirs.get("attention_types", [[[GLOBAL, LOCAL], 12]])
  kinds = [kind for period, times in groups for _ in range(times) for kind in period]
  theirs.expect("attention_layers", kinds)
  size = {GLOBAL: None, LOCAL: theirs.get("window_size", 256)}
  if len(kinds) != layers or not size.keys() >= set(kinds):
    raise UserError(
      f"{theirs.source} has attention_types = {groups}, which does not say {GLOBAL} or {LOCAL} of"
      f" each of {layers} layers"
    )
  lengths = [n for n in range(1, layers) if kinds == kinds[:n] * (layers // n)]
  if len(groups) > 1 and not lengths:
    raise UserError(
      f"{theirs.source} has attention_types = {groups}, which mtm cannot honour: its layers repeat"
      " no period"
    )
  period = groups[0][0] if len(groups) == 1 else kinds[: lengths[0]]
  return tuple(size[kind] for kind in period)


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("tie_word_embeddings", True)
  layers = theirs.get("num_layers", 24)
  return {
    "layers": layers,
    "embed": theirs.get("hidden_size", 2048),
    "heads": theirs.get("num_heads", 16),
    "vocab": theirs.need("vocab_size"),
    "windows": _windows(theirs, layers),
    "max_length": theirs.get("max_position_embeddings", 2048),
    "mlp": theirs.get("intermediate_size", None),
    "dropout": theirs.same("resid_dropout", "embed_dropout", "attention_dropout"),
    "activation": theirs.activation("activation_function", "gelu_new"),
    "epsilon": theirs.get("layer_norm_epsilon", 1e-5),
  }


def _config(a: Arguments) -> dict[str, Any]:
  kinds = [GLOBAL if size is None else LOCAL for size in a["windows"]]
  sizes = {size for size in a["windows"] if size is not None} or {256}
  if len(sizes) > 1:
    raise UserError(f"a GPT-Neo's config.json holds one window_size, not {sorted(sizes)}")
  repeats = a["layers"] // len(kinds)
  return {
    "num_layers": a["layers"], "hidden_size": a["embed"], "num_heads": a["heads"],
    "vocab_size": a["vocab"], "max_position_embeddings": a["max_length"],
    "intermediate_size": a["mlp"], "attention_types": [[kinds, repeats]],
    "attention_layers": kinds * repeats, "window_size": sizes.pop(),
    "resid_dropout": a["dropout"], "embed_dropout": a["dropout"],
    "attention_dropout": a["dropout"], "activation_function": name_of(a["activation"]),
    "layer_norm_epsilon": a["epsilon"],
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  theirs, heads, period = "transformer.h.{}", a["heads"], len(a["windows"])

  def layer(ours: str) -> list[Row]:
    return [
      *norm(f"{ours}/mixer_norm", f"{theirs}.ln_1"),
      *heads_in(f"{ours}/mixer/query", f"{theirs}.attn.attention.q_proj", heads, bias=False),
      *heads_in(f"{ours}/mixer/key", f"{theirs}.attn.attention.k_proj", heads, bias=False),
      *heads_in(f"{ours}/mixer/value", f"{theirs}.attn.attention.v_proj", heads, bias=False),
      *heads_out(f"{ours}/mixer/out", f"{theirs}.attn.attention.out_proj", heads),
      *norm(f"{ours}/channel_norm", f"{theirs}.ln_2"),
      *linear(f"{ours}/channel/wi", f"{theirs}.mlp.c_fc"),
      *linear(f"{ours}/channel/wo", f"{theirs}.mlp.c_proj"),
    ]

  return [
    row("tokens/embedding", "transformer.wte.weight"),
    row("decoder/position/table/embedding", "transformer.wpe.weight"),
    *(r for i in range(period) for r in every(layer(f"decoder/stack/period_{i}"), i, period)),
    *norm("decoder/final_norm", "transformer.ln_f"),
  ]


HF = Published(
  "gpt_neo", ("GPTNeoForCausalLM",), gpt_neo, _arguments, _config, _rows, "transformer.",
  (r"transformer\.h\.\d+\.attn\.attention\.(masked_)?bias",),
  {"lm_head.weight": "transformer.wte.weight"},
)  # fmt: skip

EXAMPLES = [
  functools.partial(gpt_neo, 4, 16, 4, 40, (None, 3), max_length=32, mlp=24),
  functools.partial(gpt_neo, 2, 16, 4, 40, (3,), max_length=32, mlp=24),
]
