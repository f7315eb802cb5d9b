"""The ids that a model was trained with: what begins, pads and ends its sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mtm.data.pipeline import Dataset
from mtm.errors import UserError
from mtm.interop import Foreign
from mtm.types import Model

Ids = int | tuple[int, ...] | None
ENCODER = "encoder_input_tokens"


@dataclasses.dataclass(frozen=True)
class Special:
  """Special ids of a checkpoint; the defaults are T5's, and those of models that began here.

  Attributes:
    begin_id: what a decoder is fed first; None: nothing before its prompt, or beside an encoder
      nobody says what.
    pad_id: what pads, or None.
    eos_id: what ends a sequence, or several ids any of which does; None: nobody says.
    bos_id: what begins a text of a decoder alone, or None.
    prefix: whether a decoder alone reads its prompt in both directions.
    counted: whether an encoder's positions count the tokens that are no padding.
    generation: what it says of generating besides, see `mtm.programs.wishes`.
  """

  begin_id: int | None = 0
  pad_id: int | None = 0
  eos_id: Ids = None
  bos_id: int | None = None
  prefix: bool = False
  counted: bool = False
  generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, told: Mapping[str, Any] | Foreign) -> Special:
    """Those that a checkpoint of another library, or the JSON of `json`, tells."""
    names = [field.name for field in dataclasses.fields(cls)]
    if isinstance(told, Mapping):
      found = {name: told[name] for name in names if name in told}
    else:
      found = {name: getattr(told, name) for name in names}
    eos = found.get("eos_id")
    return cls(**{**found, "eos_id": tuple(eos) if isinstance(eos, list) else eos})

  def json(self) -> dict[str, Any]:
    """All of them, JSON-able."""
    return dataclasses.asdict(self)

  def fed(self, model: Model, where: str) -> int:
    """What training feeds the model's decoder before a piece: its begin, or that of its texts.

    Args:
      model: whose decoder.
      where: the checkpoint, for the error.

    Raises:
      UserError: an encoder stands beside the decoder, and nobody says with what it begins.
    """
    if self.begin_id is not None:
      return self.begin_id
    if ENCODER in model.inputs and len(model.inputs) > 1:
      raise UserError(without_begin(where))
    return self.bos_id or 0

  def trained(self, model: Model, data: Dataset, where: str) -> Special:
    """Those of a model that begins training here with these, on data that may have their own; what
    the checkpoint says of generating is of the task that it was trained for, and ends here.

    Args:
      model: what is trained.
      data: what it is trained on.
      where: see `fed`.

    Raises:
      UserError: see `fed`; the data's task or split is unknown.
    """
    begin, eos = data.begin_id, data.vocabulary().eos_id
    return dataclasses.replace(
      self,
      begin_id=self.fed(model, where) if begin is None else begin,
      eos_id=self.eos_id if eos is None else eos,
      generation={},
    )


def without_begin(where: str) -> str:
  """What is told where a decoder beside an encoder has no begin."""
  return (
    f"{where} does not say what its decoder begins with: put decoder_start_token_id into its"
    " config.json, or give begin_id to mtm.load; mBART begins with the code of the language that"
    " it is to write"
  )
