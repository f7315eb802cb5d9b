"""Live comparison with `transformers`: a tiny random model of theirs, saved, opened as ours.

A module `test_<family>.py` holds `CASES`, name → `Case`, and one test that calls `check` on each;
`python -m tests.parity.record` writes the cases down for the quick suite, which has no torch. Its
`DRAWS`, name → `(rng) → Case`, are what `test_fuzz.py` draws more cases from.

Hidden states: both sides tell what enters the layers, what leaves each, and for the last one what
leaves the tower, after its norm if it has one. Theirs do so in all families but these: Mamba leaves
out the first and tells the last before its norm too (`test_mamba.py` mends it); OPT with narrow
tokens projects the last (`test_opt.py` does it to ours); cases with `states=False` differ as their
modules say. XLNet computes in `[length, batch]` and tells `[batch, length]`; ALBERT and ELECTRA
begin after the projection of their narrow embeddings.

Beams: `Beam` is T5X's search, which is theirs only while nothing ends and length is not rewarded;
it is compared there. With ends and a length penalty `MeanBeam` is theirs.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from mtm.decoding.beam import Beam
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.decoding.mean_beam import MeanBeam
from mtm.interop import hf
from tests.families.states import watched

NO_END = -1
Inputs = tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Padding:
  """Where a batch is padded.

  Attributes:
    lengths: of the texts, one a row.
    length: of the rows.
    left: whether padding stands on the left.
  """

  lengths: tuple[int, ...] = (11, 8, 5)
  length: int = 11
  left: bool = False

  def mask(self) -> np.ndarray:
    """`[rows, length]`, 1 at what counts."""
    places = np.arange(self.length)[None]
    if self.left:
      places = places[:, ::-1]
    return (places < np.array(self.lengths)[:, None]).astype(np.int64)

  def positions(self) -> np.ndarray:
    """`[rows, length]`, counted from a row's first token."""
    return np.maximum(np.cumsum(self.mask(), axis=1) - 1, 0)


SOURCE = Padding()
TARGET = Padding((7, 4, 3), 7)


def as_it_is(theirs: Any, x: np.ndarray) -> np.ndarray:
  """See `Case.last`."""
  del theirs
  return x


@dataclasses.dataclass(frozen=True)
class Case:
  """One model.

  Attributes:
    make: a fresh torch model with random parameters, of a few thousand at most.
    inputs: `() → (our batch, their keyword arguments, mask [rows, length] of what counts)`.
    generates: whether greedy and beam tokens are compared too.
    states: whether theirs tells hidden states as ours are.
    last: `(their model, our last hidden states) →` what theirs makes of them before it tells them.
    spread: how far matrices are moved; 0.3: so that two forms of GELU differ.
    beams: see `MeanBeam`; its size stays.
  """

  make: Callable[[], Any]
  inputs: Callable[[], Inputs]
  generates: bool = False
  states: bool = True
  last: Callable[[Any, np.ndarray], np.ndarray] = as_it_is
  spread: float = 0.1
  beams: MeanBeam = MeanBeam(3, power=2.0)

  def alike(self, theirs: list[np.ndarray]) -> list[np.ndarray]:
    """The hidden states of theirs that are ours as they stand."""
    return theirs if self.last is as_it_is else theirs[:-1]


def decoder(vocab: int, padding: Padding = SOURCE, positions: bool = True) -> Callable[[], Inputs]:
  """Padded prompts of a decoder; `positions`: theirs is told them where padding is on the left."""

  def make() -> Inputs:
    tokens, mask = ids(vocab, padding)
    batch = {"decoder_input_tokens": tokens, "decoder_segment_ids": mask}
    inputs = {"input_ids": tokens, "attention_mask": mask}
    if padding.left:
      batch["decoder_positions"] = padding.positions()
      inputs |= {"position_ids": padding.positions()} if positions else {}
    return batch, inputs, mask

  return make


def encoder(
  vocab: int, types: int = 0, pad: int = 0, padding: Padding = SOURCE, counted: bool = False
) -> Callable[[], Inputs]:
  """Padded texts of an encoder; `types` > 0: with random token types; `counted`: theirs counts
  positions from the first id that is not padding."""

  def make() -> Inputs:
    tokens, mask = ids(vocab, padding)
    tokens = np.where(mask > 0, tokens, pad)
    batch = {"encoder_input_tokens": tokens, "encoder_segment_ids": mask}
    inputs = {"input_ids": tokens, "attention_mask": mask}
    if counted and padding.left:
      batch["encoder_positions"] = padding.positions()
    if types:
      kinds = np.random.default_rng(2).integers(0, types, tokens.shape) * mask
      batch["encoder_token_types"] = inputs["token_type_ids"] = kinds
    return batch, inputs, mask

  return make


def both(
  vocab: int, begin: int = 0, pad: int = 0, padding: Padding = SOURCE, targets: Padding = TARGET
) -> Callable[[], Inputs]:
  """Padded sources, and targets that begin with `begin` and are padded on the right."""

  def make() -> Inputs:
    source, source_mask = ids(vocab, padding)
    source = np.where(source_mask > 0, source, pad)
    target, mask = ids(vocab, targets, seed=5)
    target = np.concatenate([np.full((len(target), 1), begin), target], axis=1)
    mask = np.concatenate([np.ones((len(mask), 1), mask.dtype), mask], axis=1)
    target = np.where(mask > 0, target, pad)
    batch = {
      "encoder_input_tokens": source, "encoder_segment_ids": source_mask,
      "decoder_input_tokens": target, "decoder_segment_ids": mask,
    }  # fmt: skip
    inputs = {
      "input_ids": source, "attention_mask": source_mask, "decoder_input_ids": target,
      "decoder_attention_mask": mask,
    }  # fmt: skip
    return batch, inputs, mask

  return make


def ids(vocab: int, padding: Padding = SOURCE, seed: int = 0) -> tuple[Any, Any]:
  """Token ids `[rows, length]` without special ones, 0 at padding, and the mask."""
  mask = padding.mask()
  return np.where(mask > 0, np.random.default_rng(seed).integers(4, vocab, mask.shape), 0), mask


def check(case: Case, folder: Path) -> None:
  """Asserts that logits, hidden states, gradients and generated tokens are theirs."""
  torch.manual_seed(0)
  theirs = case.make()
  saved(theirs, folder, spread=case.spread)
  batch, inputs, mask = case.inputs()
  last = case.last if case.states else None
  model, params = compare(folder, theirs, batch, inputs, mask, last=last)
  if not case.generates:
    return
  ours, told = prompts(batch, inputs)
  check_generation(model, params, theirs, ours, told, case.beams)


def prompts(batch: dict[str, Any], inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """What is continued, for ours and for theirs: sources with the begin of their targets, or the
  first tokens of a decoder's texts, padded on the right for ours and on the left for theirs."""
  if "encoder_input_tokens" in batch:
    first = np.asarray(batch["decoder_input_tokens"])[:, :1]
    ours = {n: x for n, x in batch.items() if n.startswith("encoder_")}
    told = {n: x for n, x in inputs.items() if not n.startswith("decoder_")}
    return ours | {"decoder_input_tokens": first}, told | {"decoder_input_ids": first}
  texts, real = batch["decoder_input_tokens"], batch["decoder_segment_ids"] > 0
  counts = [min(size, int(row.sum())) for row, size in zip(real, (5, 3, 2), strict=True)]
  right, left = (Padding(tuple(counts), max(counts), side) for side in (False, True))
  filled = [np.zeros((len(counts), max(counts)), np.int64) for _ in range(2)]
  for tokens, padding in zip(filled, (right, left), strict=True):
    tokens[padding.mask() > 0] = np.concatenate(
      [row[keep][:count] for row, keep, count in zip(texts, real, counts, strict=True)]
    )
  return (
    {"decoder_input_tokens": filled[0], "decoder_segment_ids": right.mask()},
    {"input_ids": filled[1], "attention_mask": left.mask()},
  )


def saved(model: Any, folder: Path, seed: int = 0, spread: float = 0.1) -> Path:
  """Perturbs every parameter (norms and biases most: a swapped one cannot pass), and saves."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for parameter in model.eval().parameters():
      size = spread if parameter.ndim > 1 else 0.3
      parameter += size * torch.randn(parameter.shape, generator=generator)
  model.save_pretrained(folder)
  return folder


def opened(folder: Path) -> tuple[Any, Any]:
  """Our model and its parameters, float32."""
  foreign = hf.FORMAT.open(folder)
  model = foreign.model()
  params = foreign.params(model, lambda path, values: np.asarray(values, np.float32))
  return model, params


def called(theirs: Any, inputs: dict[str, Any], **settings: Any) -> Any:
  """What theirs says of numpy inputs."""
  tensors = {name: torch.as_tensor(np.asarray(x)) for name, x in inputs.items()}
  return theirs(**tensors, **settings)


def compare(
  folder: Path, theirs: Any, batch: dict[str, Any], inputs: dict[str, Any], mask: Any,
  tolerance: float = 1e-4, last: Callable[[Any, np.ndarray], np.ndarray] | None = None,
) -> tuple[Any, Any]:  # fmt: skip
  """Asserts equal logits, gradients and, if asked for, hidden states of every layer.

  Args:
    folder: where `theirs` was saved.
    theirs: the torch model.
    batch: ours.
    inputs: theirs, numpy.
    mask: `[rows, length]`, the positions that count.
    tolerance: of logits and hidden states, which are of order 1 to 10: float32 with other orders of
      summation differs by some 1e-6; the issue of record asks for 1e-4.
    last: see `Case`; None: hidden states are not compared.

  Returns:
    our model and parameters.
  """
  model, params = opened(folder)
  real = np.asarray(mask) > 0
  weight = np.random.default_rng(1).normal(size=(*mask.shape, model.vocab_size)).astype(np.float32)
  weight *= real[..., None]
  out = called(theirs.eval(), inputs, output_hidden_states=last is not None)
  theirs.zero_grad()
  (out.logits * torch.as_tensor(weight)).sum().backward()

  @jax.jit
  def run(params: Any) -> Any:
    def loss(params: Any) -> Any:
      logits = model.apply(params, batch).logits
      return (logits * weight).sum(), logits

    (_, logits), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return logits, grads, None if last is None else watched(model, params, batch)[1]

  logits, grads, states = run(params)
  close(np.asarray(logits)[real], out.logits.detach().numpy()[real], "logits", tolerance)
  check_gradients(folder, theirs, grads)
  if last is not None:
    for side, ours in states.items():
      here = np.asarray(batch.get(f"{side}_segment_ids", mask)) > 0
      check_states([*ours[:-1], last(theirs, ours[-1])], told(out, side), here, side, tolerance)
  return model, params


def close(ours: Any, theirs: Any, name: str, tolerance: float = 1e-4) -> None:
  """Asserts that two arrays are equal; see `compare`."""
  np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=1e-4, err_msg=name)


def told(out: Any, side: str) -> list[np.ndarray]:
  """The hidden states `[rows, length, width]` of one side in what theirs gave."""
  found = out.get(f"{side}_hidden_states") or out.get("hidden_states")
  return [x.detach().numpy() for x in found]


def check_states(
  ours: list[Any], theirs: list[np.ndarray], real: np.ndarray, side: str, tolerance: float = 1e-4
) -> None:
  """Asserts equal hidden states, one after another, where `real` `[rows, length]` says so."""
  assert len(ours) == len(theirs), f"{side}: {len(ours)} hidden states and theirs {len(theirs)}"
  for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
    close(np.asarray(one)[real], other[real], f"{side} hidden state {index}", tolerance)


def check_gradients(folder: Path, theirs: Any, grads: Any) -> None:
  """Asserts that the gradients of all parameters are theirs, through the name table's own `write`;
  0 where theirs has none."""
  from mtm.interop import tree

  foreign = hf.FORMAT.open(folder)
  parameters = dict(theirs.named_parameters(remove_duplicate=False))
  compared: set[int] = set()
  family = hf.family_of(hf.read_config(folder), str(folder))
  tables = (family.rows, *family.others)  # theirs may name parameters and tensors otherwise
  every = (tree.write(jax.device_get(grads), table(foreign.arguments)) for table in tables)
  for name, ours in itertools.chain.from_iterable(every):
    if name not in parameters:  # a buffer
      continue
    grad = parameters[name].grad
    want = np.zeros_like(ours) if grad is None else grad.numpy()
    scale = max(float(np.abs(want).max()), 1.0)
    np.testing.assert_allclose(ours / scale, want / scale, atol=1e-4, err_msg=name)
    compared.add(id(parameters[name]))
  trained = {name: x for name, x in parameters.items() if x.grad is not None}
  left = [name for name, x in trained.items() if id(x) not in compared]
  assert not left, f"the gradients of {left} were not compared"


def check_generation(
  model: Any, params: Any, theirs: Any, batch: dict[str, Any], inputs: dict[str, Any],
  beams: MeanBeam, new: int = 6,
) -> None:  # fmt: skip
  """Asserts that greedy and beam tokens are theirs: without an end, and with one that some rows
  meet and others don't."""
  free = their_tokens(theirs, inputs, new, NO_END, num_beams=1)
  settings = {"num_beams": 3, "length_penalty": 0.0}
  told = their_tokens(theirs, inputs, new, NO_END, **settings)
  assert our_tokens(model, params, batch, Beam(3, 0.0), new, NO_END) == told
  end = an_end(free)
  told = their_tokens(theirs, inputs, new, end, num_beams=1)
  assert min(map(len, told)) < new, "no row ends"
  assert our_tokens(model, params, batch, Greedy(), new, end) == told
  settings = {
    "num_beams": beams.size, "length_penalty": beams.power, "early_stopping": beams.full_is_done,
  }  # fmt: skip
  told = their_tokens(theirs, inputs, new, end, **settings)
  assert our_tokens(model, params, batch, beams, new, end) == told


def an_end(lines: list[list[int]]) -> int:
  """A token that ends some of the lines, not at once if there is such a one."""
  some = [
    token
    for step in (1, 2, 3, 4, 0)
    for line in lines
    if (token := line[step]) and 0 < sum(token in other for other in lines) < len(lines)
  ]
  return some[0] if some else max(lines[0])


def their_tokens(
  theirs: Any, inputs: dict[str, Any], new: int, end: int, **settings: Any
) -> list[list[int]]:
  """What theirs generates, a list a row, the end included."""
  tensors = {name: torch.as_tensor(np.asarray(x)) for name, x in inputs.items()}
  eos = None if end == NO_END else end
  with torch.no_grad():
    out = theirs.generate(
      **tensors, max_new_tokens=new, do_sample=False, eos_token_id=eos, pad_token_id=0, **settings
    )
  prompt = inputs.get("decoder_input_ids", inputs["input_ids"]).shape[1]
  rows = out[:, prompt:].tolist()
  return [row[: row.index(end) + 1] if end in row else row for row in rows]


def our_tokens(
  model: Any, params: Any, batch: dict[str, Any], policy: Any, new: int, end: int
) -> list[list[int]]:
  """What ours generates, the best hypothesis of each row."""
  run = functools.partial(generate, model, policy=policy, max_length=new, eos_id=end)
  out = jax.jit(run)(params, batch)
  rows = zip(np.asarray(out.tokens[:, 0]), np.asarray(out.lengths[:, 0]), strict=True)
  return [row[:length].tolist() for row, length in rows]
