"""Live comparison with `transformers`: a tiny random model of theirs, saved, opened as ours.

A module `test_<family>.py` holds `CASES`, name → `Case`, and one test that calls `check` on each;
`python -m tests.parity.record` writes the cases down for the quick suite, which has no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from mtm.decoding.beam import Beam
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.interop import hf

NO_END = -1
Inputs = tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Case:
  """One model.

  Attributes:
    make: a fresh torch model with random parameters, of a few thousand at most.
    inputs: `() → (our batch, their keyword arguments, mask [rows, length] of what counts)`.
    generates: whether greedy and beam tokens are compared too.
  """

  make: Callable[[], Any]
  inputs: Callable[[], Inputs]
  generates: bool = False


def decoder(vocab: int) -> Callable[[], Inputs]:
  """Padded prompts of a decoder."""

  def make() -> Inputs:
    tokens, mask = ids(vocab)
    batch = {"decoder_input_tokens": tokens, "decoder_segment_ids": mask}
    return batch, {"input_ids": tokens, "attention_mask": mask}, mask

  return make


def encoder(vocab: int, types: int = 0, pad: int = 0) -> Callable[[], Inputs]:
  """Padded texts of an encoder; `types` > 0: with random token types."""

  def make() -> Inputs:
    tokens, mask = ids(vocab)
    tokens = np.where(mask > 0, tokens, pad)
    batch = {"encoder_input_tokens": tokens, "encoder_segment_ids": mask}
    inputs = {"input_ids": tokens, "attention_mask": mask}
    if types:
      kinds = np.random.default_rng(2).integers(0, types, tokens.shape) * mask
      batch["encoder_token_types"] = inputs["token_type_ids"] = kinds
    return batch, inputs, mask

  return make


def both(vocab: int, begin: int = 0, pad: int = 0) -> Callable[[], Inputs]:
  """Padded sources, and targets that begin with `begin`."""

  def make() -> Inputs:
    source, source_mask = ids(vocab)
    source = np.where(source_mask > 0, source, pad)
    target, mask = ids(vocab, length=7, seed=5)
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


def check(case: Case, folder: Path) -> None:
  """Asserts that logits, gradients and, if asked for, generated tokens are theirs."""
  torch.manual_seed(0)
  theirs = case.make()
  saved(theirs, folder)
  batch, inputs, mask = case.inputs()
  model, params = compare(folder, theirs, batch, inputs, mask)
  if not case.generates:
    return
  if "encoder_input_tokens" in batch:
    first = np.asarray(batch["decoder_input_tokens"])[:, :1]
    ours = {n: x for n, x in batch.items() if n.startswith("encoder_")}
    ours |= {"decoder_input_tokens": first}
    told = {n: x for n, x in inputs.items() if not n.startswith("decoder_")}
    told |= {"decoder_input_ids": first}
  else:  # theirs pad on the left: only prompts of one length can be compared
    prompt = np.asarray(batch["decoder_input_tokens"])[:2, :5]
    ours, told = {"decoder_input_tokens": prompt}, {"input_ids": prompt}
  check_generation(model, params, theirs, ours, told)


def saved(model: Any, folder: Path, seed: int = 0) -> Path:
  """Perturbs every parameter (norms and biases most: a swapped one cannot pass), and saves."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for parameter in model.eval().parameters():
      size = 0.1 if parameter.ndim > 1 else 0.3
      parameter += size * torch.randn(parameter.shape, generator=generator)
  model.save_pretrained(folder)
  return folder


def opened(folder: Path) -> tuple[Any, Any]:
  """Our model and its parameters, float32."""
  foreign = hf.FORMAT.open(folder)
  model = foreign.model()
  params = foreign.params(model, lambda path, values: np.asarray(values, np.float32))
  return model, params


def ids(vocab: int, rows: int = 3, length: int = 11, seed: int = 0) -> tuple[Any, Any]:
  """Token ids `[rows, length]` without special ones, and a mask with padding on the right."""
  rng = np.random.default_rng(seed)
  lengths = np.array([length, length - 3, length // 2])[:rows]
  mask = (np.arange(length)[None] < lengths[:, None]).astype(np.int64)
  return np.where(mask > 0, rng.integers(4, vocab, (rows, length)), 0), mask


def compare(
  folder: Path, theirs: Any, batch: dict[str, Any], inputs: dict[str, Any], mask: Any,
  tolerance: float = 1e-4,
) -> tuple[Any, Any]:  # fmt: skip
  """Asserts equal logits, last hidden states where theirs give them, and gradients.

  Args:
    folder: where `theirs` was saved.
    theirs: the torch model.
    batch: ours.
    inputs: theirs, numpy.
    mask: `[rows, length]`, the positions that count.
    tolerance: float32 with other orders of summation; the issue of record asks for 1e-4.

  Returns:
    our model and parameters.
  """
  model, params = opened(folder)
  real = np.asarray(mask) > 0
  weight = np.random.default_rng(1).normal(size=(*mask.shape, model.vocab_size)).astype(np.float32)
  weight *= real[..., None]
  tensors = {name: torch.as_tensor(np.asarray(x)) for name, x in inputs.items()}
  out = theirs.eval()(**tensors)
  theirs.zero_grad()
  (out.logits * torch.as_tensor(weight)).sum().backward()

  @jax.jit
  def run(params: Any) -> Any:
    def loss(params: Any) -> Any:
      logits = model.apply(params, batch).logits
      return (logits * weight).sum(), logits

    return jax.value_and_grad(loss, has_aux=True)(params)

  (_, logits), grads = run(params)
  np.testing.assert_allclose(
    np.asarray(logits)[real], out.logits.detach().numpy()[real], atol=tolerance, rtol=1e-4
  )
  check_gradients(folder, theirs, grads)
  return model, params


def check_gradients(folder: Path, theirs: Any, grads: Any) -> None:
  """Asserts that gradients are theirs, through the name table's own `write`."""
  from mtm.interop import tree

  foreign = hf.FORMAT.open(folder)
  named = dict(tree.write(jax.device_get(grads), foreign.rows))
  wanted = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
  checked = 0
  for name, ours in named.items():
    if name not in wanted:
      continue
    want = wanted[name].numpy()
    scale = max(float(np.abs(want).max()), 1.0)
    np.testing.assert_allclose(ours / scale, want / scale, atol=1e-4, err_msg=name)
    checked += 1
  assert checked >= len(named) - 2, "gradients of too few parameters were compared"


def check_generation(
  model: Any, params: Any, theirs: Any, batch: dict[str, Any], inputs: dict[str, Any], new: int = 6
) -> None:
  """Asserts that greedy and beam tokens are theirs; nothing ends early."""
  tensors = {name: torch.as_tensor(np.asarray(x)) for name, x in inputs.items()}
  settings = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None}
  for policy, beams in ((Greedy(), 1), (Beam(3, 0.0), 3)):
    with torch.no_grad():
      told = theirs.generate(**tensors, num_beams=beams, length_penalty=0.0, **settings)
    run = jax.jit(
      lambda params, policy=policy: generate(
        model, params, batch, policy=policy, max_length=new, eos_id=NO_END
      )
    )
    ours = np.asarray(run(params).tokens)[:, 0]
    np.testing.assert_array_equal(ours, told.numpy()[:, -new:])
