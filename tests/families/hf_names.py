"""HuggingFace's parameter names → ours, for the fixtures in tests/fixtures/hf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm.objectives._base import TokenObjective

FIXTURES = Path(__file__).parents[1] / "fixtures" / "hf"
HEADS, LAYERS = 4, 2

Split = Callable[[np.ndarray], np.ndarray]
Row = tuple[str, str, Split]  # ours, theirs ("{}" is the layer), theirs → ours


def same(x: np.ndarray) -> np.ndarray:
  return x


def linear(x: np.ndarray) -> np.ndarray:
  """torch's Linear keeps `[outputs, inputs]`."""
  return x.T


def into_heads(heads: int) -> Split:
  """`[heads · head_dim, embed]` or a bias → `[embed, heads, head_dim]`."""

  def split(x: np.ndarray) -> np.ndarray:
    x = x.T
    return x.reshape(*x.shape[:-1], heads, -1)

  return split


def from_heads(x: np.ndarray) -> np.ndarray:
  """`[embed, heads · head_dim]` → `[heads, head_dim, embed]`."""
  return x.T.reshape(HEADS, -1, x.shape[0])


def load(name: str) -> dict[str, np.ndarray]:
  """All arrays of a fixture, by key."""
  with np.load(FIXTURES / f"{name}.npz") as arrays:
    return dict(arrays)


def tree(arrays: Mapping[str, np.ndarray], prefix: str, rows: list[Row]) -> dict[str, Any]:
  """`<prefix>/<name>` arrays as our nested dict; fails unless each is used exactly once."""
  left = {k.removeprefix(f"{prefix}/"): v for k, v in arrays.items() if k.startswith(f"{prefix}/")}
  out: dict[str, Any] = {}
  for ours, theirs, split in rows:
    if "{}" in theirs:
      value = np.stack([split(left.pop(theirs.format(layer))) for layer in range(LAYERS)])
    else:
      value = split(left.pop(theirs))
    *parents, last = ours.split("/")
    node = out
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = value
  assert not left, f"unmapped: {sorted(left)}"
  return out


def both(ours: str, theirs: str, scale: str, split: Split, bias: Split = same) -> list[Row]:
  """Rows of a weight and its bias; `scale` is what ours calls the weight."""
  return [
    (f"{ours}/{scale}", f"{theirs}.weight", split),
    (f"{ours}/bias", f"{theirs}.bias", bias),
  ]


def check(model: Any, objective: TokenObjective, arrays: Any, rows: list[Row], batch: Any) -> None:
  """Asserts that parameters, logits, loss and gradients are those of the fixture."""
  params = tree(arrays, "param", rows)
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert jax.tree.map(np.shape, params) == jax.tree.map(lambda x: x.shape, shapes)

  @jax.jit
  def run(params: Any) -> Any:
    def loss(params: Any) -> Any:
      return objective.loss(model.apply, params, batch).loss

    return model.apply(params, batch).logits, jax.value_and_grad(loss)(params)

  logits, (loss, grads) = run(params)
  real = arrays["in/attention_mask"] > 0
  # float32 with other orders of summation; logits are of order 1.
  np.testing.assert_allclose(logits[real], arrays["logits"][real], rtol=2e-5, atol=1e-5)
  np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-6)
  wanted = tree(arrays, "grad", rows)
  # Gradients of the summed loss reach 10; single entries cancel to rounding.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-5), grads, wanted)


def decoder_batch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The batch of a causal language model; theirs predicts what follows `input_ids`."""
  targets = arrays["in/targets"]
  return {
    "decoder_input_tokens": arrays["in/input_ids"],
    "decoder_target_tokens": np.maximum(targets, 0),
    "decoder_loss_weights": (targets >= 0).astype(np.int32),
  }
