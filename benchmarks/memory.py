"""What each memory plan of gin/memory saves, and what it costs.

`pip install -e '.[tpu,quant]'`, then `python -m benchmarks.memory --output
benchmarks/results/memory.json`. It also writes the table of docs/memory.md anew.

Memory is that of one chip of a TPU v5e, of which none need be here: `mtm compile` of a LLaMA on a
2x4 slice under fsdp, each plan's file after the others. Time is of a smaller LLaMA's training step
on this machine's CPU, all plans in one process and in turns, as a ratio to no plan. On a CPU, whose
one memory is the host's, offloading shows its copies and nothing of a slower link, and matmuls in
eight bits are emulated: read those times as what they are.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import _paired
from mtm import compile as verb
from mtm.families.llama import llama
from mtm.objectives.causal_lm import CausalLM
from mtm.programs import planned
from mtm.scale import topology
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.memory import Memory
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "memory.md"
MARKS = ("<!-- made by python -m benchmarks.memory -->", "<!-- end -->")
NONE = "none"
PLANS: Mapping[str, list[str]] = {
  NONE: [],
  **{
    name: [f"memory/{name}.gin"]
    for name in ("remat_attention", "remat_dots", "remat_full", "offload_activations",
                 "offload_optimizer", "bfloat16_state", "int8", "fp8")
  },
  "remat_full, bfloat16_state": ["memory/remat_full.gin", "memory/bfloat16_state.gin"],
}  # fmt: skip
SLICE = "v5e:2x4"
FILES = ["runs/pretrain.gin", "families/llama/7B.gin", "optim/adamw.gin", "mesh/fsdp.gin"]
SIZES = {"layers": 16, "embed": 2048, "heads": 16, "mlp": 5632, "vocab": 32000}
FLAGS = [
  *(f"--gin.llama.llama.{name}={size}" for name, size in SIZES.items()),
  "--gin.llama.llama.dtype='bfloat16'", "--gin.BATCH_SIZE=16",
  "--gin.TASK_FEATURE_LENGTHS={'targets': 2048}",
]  # fmt: skip
SMALL = {"layers": 8, "embed": 128, "heads": 4, "mlp": 352, "vocab": 1024}
ROWS, LENGTH = 2, 128  # so few, for eight bits are slow on a CPU


def compiled(files: list[str]) -> dict[str, Any]:
  """GiB of a chip by category, or why the program does not fit."""
  where = topology.parse(SLICE, 1)
  run = planned.of([*FILES, *files], FLAGS)
  report = verb.training(run, where, quick=True, advice=False)
  gib = report.get("hbm_gib_per_chip")
  return {"fits": report["fits"], "gib": gib, "parameters": report["parameters"]}


def parts(files: list[str]) -> tuple[Any, Any, Memory]:
  """The policy, the matmul and the memory that a plan's files name."""
  told = planned.of([*FILES, *files], FLAGS).parts
  return told["remat"], told["matmul"], told["memory"]


def stepper(files: list[str]) -> Any:
  """Runs a step of the small model under a plan, and returns when it is done."""
  policy, matmul, memory = parts(files)
  model = llama(**SMALL).fitted(policy, matmul)
  ids = np.random.default_rng(0).integers(2, SMALL["vocab"], (ROWS, LENGTH), np.int32)
  batch = {
    "decoder_input_tokens": ids, "decoder_target_tokens": ids,
    "decoder_loss_weights": np.ones_like(ids),
  }  # fmt: skip
  plan = Plan(mesh(devices=jax.devices()[:1]))
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
  trainer = Trainer(model, CausalLM(), adamw(1e-4), plan, shapes, memory=memory)
  box = [trainer.create()]
  put = plan.put_batch(batch)

  def step() -> None:
    box[0], sums = trainer.train_step(box[0], put)
    jax.block_until_ready((box[0], sums))

  return step


def timed(rounds: int) -> dict[str, dict[str, float]]:
  """Each plan's median seconds of a step, and the median of its ratios to no plan."""
  steps = {name: stepper(files) for name, files in PLANS.items()}
  seconds: dict[str, list[float]] = {name: [] for name in steps}
  for name, step in steps.items():
    step()
    step()
    print(f"{name}: compiled for this machine", flush=True)
  for _ in range(rounds):
    for name, step in steps.items():
      began = time.perf_counter()
      step()
      seconds[name].append(time.perf_counter() - began)
  return {
    name: {
      "seconds": statistics.median(own),
      "ratio": statistics.median(a / b for a, b in zip(own, seconds[NONE], strict=True)),
    }
    for name, own in seconds.items()
  }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
  """The results as Markdown."""
  shown = ("parameters", "optimizer", "activations", "peak", "host")
  lines = [
    f"| plan | {' | '.join(shown)} | time of a step |", f"|---|{'---|' * len(shown)}---|",
  ]  # fmt: skip
  for name, one in found.items():
    gib = one["gib"] or {}
    cells = [f"{gib[key]:.2f}" if key in gib else "–" for key in shown]
    if not one["fits"]:
      cells[3] = f"{cells[3]} (does not fit)"
    lines.append(f"| `{name}` | {' | '.join(cells)} | {one['ratio']:.2f} |")
  return "\n".join(lines)


def write(page: str, made: str) -> str:
  """`page` with this table between its marks."""
  before, rest = page.split(MARKS[0])
  return f"{before}{MARKS[0]}\n{made}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--rounds", type=int, default=9)
  arguments = parser.parse_args()
  times, found = timed(arguments.rounds), {}
  for name, files in PLANS.items():
    found[name] = {**compiled(files), **times[name]}
    print(f"{name}: {found[name]}", flush=True)
  print(table(found))
  if arguments.output:
    record = {"machine": _paired.machine(), "jax": jax.__version__, "slice": SLICE,
              "flags": FLAGS, "small": SMALL, "plans": found}  # fmt: skip
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    DOCS.write_text(write(DOCS.read_text(), table(found)))


if __name__ == "__main__":
  main()
