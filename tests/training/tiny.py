"""The smallest model of each family, batches and trainers: what tests of training share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from mtm.axes import MeshAxes
from mtm.families.bert import bert
from mtm.families.gpt2 import gpt2
from mtm.families.llama import llama
from mtm.families.t5 import t5
from mtm.objectives._base import TokenObjective
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.mlm import MaskedLM
from mtm.objectives.span_corruption import SpanCorruption
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.sharding.rules import RULES, Rule
from mtm.training.trainer import Trainer

VOCAB, LENGTH, ROWS, EMBED, HEADS = 32, 8, 16, 16, 4

# Its state is the gradient itself, which tests read bit by bit.
KEEP_GRADIENTS = optax.chain(optax.trace(decay=0.0), optax.scale(-0.1))

FAMILIES: Mapping[str, tuple[Callable[..., Any], TokenObjective]] = {
  "gpt2": (
    functools.partial(gpt2, 2, EMBED, HEADS, VOCAB, LENGTH, mlp=32),
    CausalLM(z_loss=1e-3, label_smoothing=0.1),
  ),
  "llama": (functools.partial(llama, 2, EMBED, HEADS, 32, VOCAB), CausalLM()),
  "t5": (functools.partial(t5, 2, EMBED, HEADS, 4, 32, VOCAB), SpanCorruption(z_loss=1e-3)),
  "bert": (functools.partial(bert, 2, EMBED, HEADS, VOCAB, LENGTH, mlp=32), MaskedLM()),
}

MESHES = {
  "data=8": {"data": 8},
  "fsdp=8": {"data": 1, "fsdp": 8},
  "data=2 fsdp=2 tensor=2": {"data": 2, "fsdp": 2, "tensor": 2},
  "data=2 tensor=4": {"data": 2, "tensor": 4},
}


def one_device() -> Plan:
  """A plan for the first device alone."""
  return Plan(mesh(data=1, devices=jax.devices()[:1]))


def on(sizes: Mapping[str, int], **rules: tuple[MeshAxes, MeshAxes]) -> Plan:
  """A plan for all eight devices."""
  return Plan(mesh(**sizes), {**RULES, **{k: Rule(*v) for k, v in rules.items()}})


def batch(family: str, rows: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
  """Random tokens `[rows, LENGTH]`, each row with its own padding; some rows have no target."""
  draw = np.random.default_rng(seed)
  sides = {"t5": ("encoder", "decoder"), "bert": ("encoder",)}.get(family, ("decoder",))
  real = draw.integers(0, LENGTH + 1, rows)
  real[0], real[-1] = LENGTH, 1
  kept = np.arange(LENGTH) < real[:, None]
  features = {}
  for side in sides:
    ids = draw.integers(1, VOCAB, (rows, LENGTH)).astype(np.int32)
    features[f"{side}_input_tokens"] = np.where(kept, ids, 0)
    features[f"{side}_positions"] = np.where(kept, np.arange(LENGTH, dtype=np.int32), 0)
    features[f"{side}_segment_ids"] = kept.astype(np.int32)
  features[f"{sides[-1]}_target_tokens"] = np.where(kept, draw.integers(1, VOCAB, kept.shape), 0)
  features[f"{sides[-1]}_loss_weights"] = kept.astype(np.int32)
  return {name: np.asarray(x, np.int32) for name, x in features.items()}


def shapes(features: Mapping[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
  """What `Trainer.batch` holds."""
  return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in features.items()}


def trainer(family: str = "gpt2", plan: Plan | None = None, **changes: Any) -> Trainer:
  """A trainer of the family's smallest model with dropout.

  Args:
    family: a key of `FAMILIES`.
    plan: None: one device.
    **changes: fields of `Trainer`; `dropout`, `rows` and `dtype` besides.
  """
  build, objective = FAMILIES[family]
  model = build(dropout=changes.pop("dropout", 0.25), dtype=changes.pop("dtype", "float32"))
  rows = changes.pop("rows", ROWS)
  fields = {"optimizer": KEEP_GRADIENTS, "seed": 3, "objective": objective, **changes}
  return Trainer(model, plan=plan or one_device(), batch=shapes(batch(family, rows)), **fields)
