"""What the speed benchmarks build, on either side: the same sizes for mtm and for its rival."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Size:
  """A model and what it is fed.

  Attributes:
    embed, layers, heads, mlp, vocab: of the model; a T5 has `layers` in each tower.
    batch: examples.
    length: tokens of an example, in each tower.
    prompt: tokens of a prompt (GPT-2) or of the encoder's input (T5) in decoding.
    generated: tokens that decoding adds.
    dropout: share dropped in training.
  """

  embed: int = 256
  layers: int = 4
  heads: int = 4
  mlp: int = 1024
  vocab: int = 8192
  batch: int = 8
  length: int = 256
  prompt: int = 32
  generated: int = 64
  dropout: float = 0.1


SIZES = {
  "standard": Size(),
  "tiny": Size(32, 2, 2, 64, vocab=128, batch=2, length=16, prompt=4, generated=4),
}
LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.01
TWO_TOWERS = ("t5", "switch")
EXPERTS = 8  # of a Switch Transformer, in every second layer
CAPACITY = 1.25  # their places in a row, as a multiple of its tokens
