"""XLNet's content stream against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402

from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, **fields: Any) -> Any:
  config = transformers.XLNetConfig(vocab_size=vocab, mem_len=None, **fields)
  return transformers.XLNetLMHeadModel(config)


def one_type() -> harness.Inputs:
  """No types for ours and zeros for theirs: softmax does not see one vector for all pairs, and
  theirs has gradients of all its parameters."""
  batch, inputs, mask = harness.encoder(37, pad=5)()
  return batch, {**inputs, "token_type_ids": np.zeros_like(mask)}, mask


def without_mask() -> harness.Inputs:
  """A causal model sees no padding on the right; theirs cannot add a mask of several rows."""
  batch, inputs, mask = harness.encoder(37, types=2, pad=5)()
  return batch, {name: x for name, x in inputs.items() if name != "attention_mask"}, mask


CASES = {
  "xlnet": harness.Case(
    lambda: model(d_model=12, n_head=3, n_layer=2, d_inner=20),
    harness.encoder(37, types=3, pad=5),
  ),
  "xlnet_relu": harness.Case(
    lambda: model(d_model=20, n_head=5, n_layer=1, d_inner=24, ff_activation="relu"),
    one_type,
  ),
  "xlnet_uni": harness.Case(
    lambda: model(d_model=12, n_head=1, n_layer=3, d_inner=16, attn_type="uni"),
    without_mask,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  """Of an even width: their sinusoids have no other. Causal ones cannot be told padding."""
  n, act = draws.sizes(rng, even=True), draws.activation(rng)
  return harness.Case(
    lambda: model(
      n.vocab, d_model=n.embed, n_head=n.heads, n_layer=n.layers, d_inner=n.mlp, ff_activation=act
    ),
    harness.encoder(n.vocab, int(rng.integers(1, 5)), 5, draws.padding(rng, n.length)),
    spread=draws.SPREAD,
  )


DRAWS = {"xlnet": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


def test_no_types_are_one_type(tmp_path: Path) -> None:
  """Theirs without types, which have no gradients of their parameters then."""
  case = CASES["xlnet"]
  theirs = case.make()
  ours, params = harness.opened(harness.saved(theirs, tmp_path))
  batch, inputs, mask = harness.encoder(37, pad=5)()
  with torch.no_grad():
    wanted = theirs(**{name: torch.as_tensor(x) for name, x in inputs.items()}).logits.numpy()
  logits = np.asarray(jax.jit(ours.apply)(params, batch).logits)
  np.testing.assert_allclose(logits[mask > 0], wanted[mask > 0], rtol=1e-4, atol=1e-4)


def test_their_padding_on_the_left_changes_nothing(tmp_path: Path) -> None:
  """Their tokenizer pads on the left, our batches on the right: only distances count."""
  theirs = CASES["xlnet"].make()
  ours, params = harness.opened(harness.saved(theirs, tmp_path))
  batch, inputs, mask = harness.encoder(37, types=3, pad=5)()
  lengths = mask.sum(axis=1)

  def moved(x: np.ndarray) -> np.ndarray:
    rows = zip(x, lengths, strict=True)
    return np.stack([np.roll(row, mask.shape[1] - length, axis=0) for row, length in rows])

  with torch.no_grad():
    out = theirs(**{name: torch.as_tensor(moved(x)) for name, x in inputs.items()})
  wanted = out.logits.numpy()[moved(mask) > 0]
  logits = np.asarray(jax.jit(ours.apply)(params, batch).logits)
  np.testing.assert_allclose(logits[mask > 0], wanted, rtol=1e-4, atol=1e-4)
