"""Axes of the mesh compose: whatever the mix, a step is that of one device, dropout and all.

Dense, sparse and expert families, batches accumulated over two parts, dropout on. What a pipeline
drops belongs to its microbatches, so it is compared with a pipeline on one device.
"""

from __future__ import annotations

import functools
import re

import jax
import numpy as np
import pytest

from mtm.families.llama import llama
from mtm.families.sparse_transformer import sparse_transformer
from mtm.families.switch_decoder import switch_decoder
from mtm.objectives.causal_lm import CausalLM
from mtm.parts.patterns import published
from mtm.parts.stages import Schedule
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.sharding.rules import RULES, override
from mtm.training import state as states
from mtm.training.trainer import Trainer
from tests.training import tiny
from tests.training.test_trainer import distance, norm

# float32 sums in another order: a few ulp a term, far above what was seen (1e-6).
TOLERANCE = 1e-5
EMBED, HEADS, VOCAB, LENGTH, ROWS = 16, 4, tiny.VOCAB, 16, 16
SHARED = {"dropout": 0.25}
FAMILIES = {
  "dense": lambda: llama(2, EMBED, HEADS, 32, VOCAB, kv_heads=2, **SHARED),
  "sparse": lambda: sparse_transformer(
    2, EMBED, HEADS, VOCAB, LENGTH, published.sparse_fixed(4, 1), mlp=32, **SHARED
  ),
  # Within an expert a seat is dropped, and "auto" may take another engine, with other seats, where
  # the mesh cuts the experts.
  "experts": lambda: switch_decoder(
    2, EMBED, HEADS, 32, VOCAB, 4, step=1, capacity=2.0, engine="einsum", **SHARED
  ),
}
# Norms between layers are shared out among `tensor` neighbours.
NORMS = override({"residual_length": ((), ("sequence", "tensor"))})
SECOND = override({"embed": ((), (), ("fsdp",))})  # ZeRO-2
MESHES = {
  "fsdp=2 sequence=2 tensor=2": {"data": 1, "fsdp": 2, "sequence": 2, "tensor": 2},
  "data=2 sequence=4": {"data": 2, "sequence": 4},
  "data=2 expert=2 tensor=2": {"data": 2, "expert": 2, "tensor": 2},
  "fsdp=2 expert=4": {"data": 1, "fsdp": 2, "expert": 4},
  "expert=2 sequence=2 tensor=2": {"data": 1, "expert": 2, "sequence": 2, "tensor": 2},
  "stage=2 data=2 tensor=2": {"stage": 2, "data": 2, "tensor": 2},
  "stage=2 fsdp=2 sequence=2": {"stage": 2, "data": 1, "fsdp": 2, "sequence": 2},
  "data=2 fsdp=2 tensor=2": {"data": 2, "fsdp": 2, "tensor": 2},
}
PIPE = Schedule(2)
QUICK = {
  ("dense", "fsdp=2 sequence=2 tensor=2", "norms", False),
  ("sparse", "data=2 sequence=4", "table", False),
  ("experts", "data=2 expert=2 tensor=2", "zero2", False),
}
CHOICES = {"table": RULES, "norms": NORMS, "zero2": SECOND}


def trainer(family: str, plan: Plan, piped: bool) -> Trainer:
  model = FAMILIES[family]()
  return Trainer(
    PIPE.applied(model) if piped else model, CausalLM(), tiny.KEEP_GRADIENTS, plan,
    tiny.shapes(batch()), seed=3, microbatches=2,
  )  # fmt: skip


@functools.cache
def batch() -> dict[str, np.ndarray]:
  draw = np.random.default_rng(0)
  real = draw.integers(2, LENGTH + 1, (ROWS, 1))
  kept = np.arange(LENGTH) < real
  ids = [np.where(kept, draw.integers(1, VOCAB, kept.shape), 0) for _ in range(2)]
  segments = np.where(kept, 1 + (np.arange(LENGTH) >= real // 2), 0)  # two documents a row
  first = np.where(np.arange(LENGTH) >= real // 2, real // 2, 0)
  features = {
    "decoder_input_tokens": ids[0], "decoder_target_tokens": ids[1],
    "decoder_positions": np.where(kept, np.arange(LENGTH) - first, 0),
    "decoder_segment_ids": segments, "decoder_loss_weights": kept,
  }  # fmt: skip
  return {name: np.asarray(x, np.int32) for name, x in features.items()}


@functools.cache
def beginning(family: str):
  """A state before the first step, the same for all; nothing is compiled for it."""
  own, draw = trainer(family, tiny.one_device(), False), np.random.default_rng(1)
  params = jax.tree.map(
    lambda s: draw.normal(size=s.shape, scale=0.2).astype(np.float32), own.shapes.params
  )
  return jax.device_get(states.create(params, own.optimizer, 3, {"loss_scale": own.loss_scale}))


def step(own: Trainer, family: str):
  """The gradient and means of a step, and its program."""
  put = own.plan.put_batch(batch())
  state = jax.device_put(beginning(family), own.shardings)
  program = own.train_step.lower(state, put).compile()
  state, sums = program(state, put)
  return jax.device_get(state.opt_state[0].trace), jax.device_get(sums.means()), program


@functools.cache
def on_one_device(family: str, piped: bool):
  return step(trainer(family, tiny.one_device(), piped), family)[:2]


def every_choice():
  for family in FAMILIES:
    for name, sizes in MESHES.items():
      for rules in CHOICES:
        for piped in (False, True) if "stage" in sizes else (False,):
          case = (family, name, rules, piped)
          marks = () if case in QUICK else pytest.mark.slow
          said = f"{family} {name} {rules}{' piped' if piped else ''}"
          yield pytest.param(*case, id=said, marks=marks)


@pytest.mark.parametrize("family, name, rules, piped", list(every_choice()))
def test_any_mix_of_axes_is_a_step_of_one_device(family, name, rules, piped):
  gradient, means = on_one_device(family, piped)
  own = trainer(family, Plan(mesh(**MESHES[name]), CHOICES[rules]), piped)
  got, got_means, program = step(own, family)
  # Dropout is on: one different bit of a mask would move the loss by far more than this.
  np.testing.assert_allclose(got_means["loss"], means["loss"], rtol=TOLERANCE)
  assert distance(got, gradient) <= TOLERANCE * norm(gradient)
  if rules == "norms" and own.plan.mesh.shape["tensor"] > 1 and not piped:
    sharing = own.plan.mesh.size // own.plan.mesh.shape["stage"]  # stages that are not piped do not
    part = ROWS // 2 * LENGTH // sharing
    if own.plan.mesh.shape["expert"] == 1:
      assert norms(program) == {part}, "a norm that is not shared out"


def norms(program) -> set[int]:
  """Of how many tokens the program takes the root."""
  shapes = re.findall(r"= f32\[([\d,]*)\]\S* rsqrt\(", program.as_text())
  return {int(np.prod([int(n) for n in shape.split(",") if n] or [1])) for shape in shapes}
