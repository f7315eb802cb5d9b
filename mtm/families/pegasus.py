"""PEGASUS (1912.08777): BART with norms before the sublayers, sinusoids, and no embedding norm."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.families import _bart
from mtm.families._names import Row
from mtm.families._published import Arguments, Published
from mtm.parts.kernels import Kernel
from mtm.parts.transformer import Model

_VARIANT = _bart.Variant(pre_norm=True, embed_norm=False, learned=False)
_IDS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "forced_eos_token_id": 1}


@dataclasses.dataclass(frozen=True)
class Sinusoids:
  """The table of their positions, `[length, width]`, for which we have no parameter.

  Some versions of their code save it, others compute it anew. What is saved must be what ours
  computes, but for the rounding of angles in float32 and that of the type it is saved in.
  """

  length: int
  width: int

  def table(self) -> np.ndarray:
    """Sines, then cosines, rounded once from float64 as theirs are."""
    features = np.arange(self.width)
    angles = np.arange(self.length)[:, None] / np.power(10_000, 2 * (features // 2) / self.width)
    waves = np.concatenate([np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])], axis=1)
    return waves.astype(np.float32)

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Nothing. Raises UserError where it is another table."""
    (values,) = theirs
    if values.shape != (self.length, self.width):
      raise UserError(f"its shape is {values.shape}, and {(self.length, self.width)} was expected")
    rounding = 2.0 ** (-8 if values.itemsize < 4 else -23)
    tolerance = rounding + self.length * 2.0**-23
    largest = float(np.abs(values.astype(np.float32) - self.table()).max())
    if largest > tolerance:
      raise UserError(
        f"it differs by {largest:.2g} from the sinusoids that mtm computes: these positions are"
        " others, and the model would not be the one that was saved"
      )
    return ()

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """The table."""
    del ours
    return (self.table(),)


def pegasus(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  max_length: int = 1024,
  decoder_layers: int | None = None,
  decoder_heads: int | None = None,
  decoder_mlp: int | None = None,
  dropout: float = 0.1,
  attention_dropout: float = 0.1,
  activation_dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
  scale_embedding: bool = True,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A PEGASUS; the arguments are those of `bart`. No parameter depends on `max_length`."""
  return _bart.build(
    _VARIANT, layers=layers, embed=embed, heads=heads, mlp=mlp, vocab=vocab, max_length=max_length,
    decoder_layers=decoder_layers, decoder_heads=decoder_heads, decoder_mlp=decoder_mlp,
    dropout=dropout, attention_dropout=attention_dropout, activation_dropout=activation_dropout,
    activation=activation, scale_embedding=scale_embedding, kernel=kernel, scan=scan, remat=remat,
    dtype=dtype,
  )  # fmt: skip


def _config(a: Arguments) -> dict[str, Any]:
  return {**_bart.config_of(a), **_IDS}


def _rows(a: Arguments) -> list[Row]:
  table = Sinusoids(a["max_length"], a["embed"])
  saved = [
    Row((), (f"model.{side}.embed_positions.weight",), table, optional=True)
    for side in ("encoder", "decoder")
  ]
  return [*_bart.rows_of(a, _VARIANT), *saved]


HF = Published(
  "pegasus", ("PegasusForConditionalGeneration",), pegasus,
  functools.partial(_bart.arguments_of, variant=_VARIANT), _config,
  _rows, "model.", _bart.IGNORED, _bart.COPIES, _IDS,
)  # fmt: skip

EXAMPLES = [
  functools.partial(pegasus, 2, 16, 4, 24, 40, max_length=32, decoder_layers=1, decoder_heads=2)
]
