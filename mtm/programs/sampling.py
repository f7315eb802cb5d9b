"""An action: the model continues a few prompts, so that people see what it has learned."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax

from mtm.data.vocabulary import load, terminated
from mtm.decoding import Policy
from mtm.decoding.sample import Sample as Draw
from mtm.programs.generation import Generator
from mtm.programs.loading import VOCABULARY
from mtm.training.actions import due
from mtm.training.loop import Run


@dataclasses.dataclass
class Sample:
  """Writes `MODEL_DIR/samples/<step>.txt` every `period` steps and at the end.

  Attributes:
    prompts: texts to continue.
    period: steps between two; 0: at the end only.
    policy: how the next token is chosen.
    max_length: the most tokens to generate for a prompt.
    bidirectional_prefix: whether a decoder reads its prompt in both directions (prefix LM).
  """

  prompts: Sequence[str]
  period: int = 0
  policy: Policy = Draw(temperature=0.8, top_p=0.95)  # noqa: RUF009 (frozen)
  max_length: int = 64
  bidirectional_prefix: bool = False
  _generator: Generator | None = None

  def __call__(self, run: Run) -> None:
    """See `mtm.training.loop.Action`."""
    if not due(run, self.period) or not run.step:
      return
    run.sync()
    with run.clock.measure("samples"):
      vocabulary = load(run.model_dir / VOCABULARY)
      generator = self._generator or self._make(run, vocabulary)
      encoder = generator.reads_encoder
      encode = functools.partial(terminated, vocabulary) if encoder else vocabulary.encode
      prompts = [encode(text) for text in self.prompts]
      answers = list(generator(run.state.params, enumerate(prompts)))
    parts = [
      prompt + vocabulary.decode(best[0].tokens)
      for prompt, best in zip(self.prompts, answers, strict=True)
    ]
    text = "\n\n".join(f"--- {number}\n{part}" for number, part in enumerate(parts, 1)) + "\n"
    if jax.process_index() == 0:
      path = run.model_dir / "samples" / f"{run.step}.txt"
      path.parent.mkdir(exist_ok=True)
      path.write_text(text)
      run.note(f"step {run.step}: samples\n{text.rstrip()}")

  def _make(self, run: Run, vocabulary: Any) -> Generator:
    trainer = run.trainer
    rows = max(len(self.prompts), trainer.plan.rows)
    self._generator = Generator(
      trainer.model, trainer.plan, self.policy, self.max_length, vocabulary.eos_id,
      -(-rows // trainer.plan.rows) * trainer.plan.rows,
      bidirectional_prefix=self.bidirectional_prefix, begin_id=run.begin_id,
    )  # fmt: skip
    return self._generator
