"""Does mtm work on this GPU, and how much of it does training use? `make gpu-check` runs it.

`python -m benchmarks.gpu_check --output benchmarks/results/gpu_check.json`

Runs the tests of kernels, attention, models and training steps on the GPU, float32 products in
full precision; then trains a LLaMA in bfloat16 for some steps under each attention engine.
Utilisation is model FLOPs (2204.02311, appendix B) over what the best of some large matrix products
reaches here, and over the published peak. Needs no TensorFlow. `--platform cpu` with `--sizes
tiny` tries the script itself where there is no GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.families.llama import llama
from mtm.objectives.causal_lm import CausalLM
from mtm.parts import remat
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training import flops
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer

TESTS = [
  "tests/contracts/test_kernels.py", "tests/parts/kernels", "tests/parts/test_attention.py",
  "tests/contracts/test_engines.py", "tests/parts/experts/engines", "tests/parts/test_linear.py",
  "tests/parts/test_remat.py", "tests/parts/test_stack.py", "tests/decoding/test_greedy.py",
  "tests/training/test_step.py",
]  # fmt: skip
WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class Size:
  """A model and a batch.

  Attributes:
    layers, embed, heads, mlp, vocab: see `llama`.
    rows, length: of a batch.
    side: of the matrices whose product is the measure.
  """

  layers: int
  embed: int
  heads: int
  mlp: int
  vocab: int
  rows: int
  length: int
  side: int


SIZES = {
  "tiny": Size(2, 64, 2, 128, 256, 2, 128, 256),
  "330m": Size(24, 1024, 16, 2816, 32_000, 8, 2048, 8192),
  "1b": Size(24, 2048, 16, 5632, 32_000, 8, 2048, 8192),
}


def tests(platform: str) -> bool:
  """Whether the tests pass on this platform; what they say is shown as it comes."""
  environment = {
    **os.environ, "JAX_PLATFORMS": platform, "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
  }  # fmt: skip
  command = [sys.executable, "-m", "pytest", "-m", "not slow and not parity and not tpu", *TESTS]
  command += ["-p", "no:benchmark"]  # a plugin that refuses to run in several processes
  if importlib.util.find_spec("xdist"):
    command += ["-n", str(min(16, os.cpu_count() or 1))]
  return subprocess.run(command, env=environment).returncode == 0


def train(name: str, kernel: str, steps: int) -> dict[str, Any]:
  """Seconds of a step, and model FLOPs of it; or why the engine cannot run it."""
  size, about = SIZES[name], {"size": name, "kernel": kernel}
  model = llama(
    size.layers, size.embed, size.heads, size.mlp, size.vocab, kernel=kernel, remat=remat.dots(),
    dtype="bfloat16",
  )  # fmt: skip
  ids = np.random.default_rng(0).integers(2, size.vocab, (size.rows, size.length), np.int32)
  batch = {
    "decoder_input_tokens": ids, "decoder_target_tokens": ids,
    "decoder_loss_weights": np.ones_like(ids),
  }  # fmt: skip
  plan = Plan(mesh(devices=jax.devices()[:1]))
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
  trainer = Trainer(model, CausalLM(), adamw(1e-4), plan, shapes)
  put, seconds = plan.put_batch(batch), []
  try:
    state = trainer.create()
    for _ in range(WARM_UP + steps):
      began = time.perf_counter()
      state, sums = trainer.train_step(state, put)
      loss = float(jax.device_get(sums.loss)) / ids.size
      seconds.append(time.perf_counter() - began)
  except UserError as error:
    return {**about, "failed": str(error)}
  if not np.isfinite(loss):
    return {**about, "failed": f"the loss is {loss}"}
  work = flops.training_step(model.apply, CausalLM(), trainer.shapes.params, shapes)
  return {**about, "seconds": statistics.median(seconds[WARM_UP:]), "flops": work,
          "tokens": ids.size, "loss": loss}  # fmt: skip


def rated(run: dict[str, Any], measured: float, published: float | None) -> dict[str, Any]:
  """A run with its rates: tokens/s, TFLOP/s, and shares of the two peaks."""
  if "failed" in run:
    return run
  rate = run["flops"] / run["seconds"]
  return {
    **run,
    "tokens_per_second": run["tokens"] / run["seconds"],
    "tflops": rate / 1e12,
    "mfu_of_measured": rate / measured,
    "mfu_of_published": None if published is None else rate / published,
  }


def table(runs: list[dict[str, Any]], device: str, measured: float) -> str:
  """What is printed."""
  lines = [
    f"{device}: a bfloat16 product reaches {measured / 1e12:.1f} TFLOP/s", "",
    f"{'model':<8}{'attention':<12}{'ms a step':>11}{'tokens/s':>12}{'TFLOP/s':>10}{'MFU':>8}"
    f"{'of peak':>9}",
  ]  # fmt: skip
  for run in runs:
    if "failed" in run:
      lines.append(f"{run['size']:<8}{run['kernel']:<12}{run['failed']}")
      continue
    of_peak = run["mfu_of_published"]
    lines.append(
      f"{run['size']:<8}{run['kernel']:<12}{1e3 * run['seconds']:>11.1f}"
      f"{run['tokens_per_second']:>12.0f}{run['tflops']:>10.1f}{run['mfu_of_measured']:>8.1%}"
      f"{'unknown' if of_peak is None else f'{of_peak:.1%}':>9}"
    )
  return "\n".join(lines)


def main() -> int:
  """The command; 1 where a test or every engine fails, or there is no such device."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--platform", default="gpu", choices=["gpu", "cpu"])
  parser.add_argument("--sizes", nargs="+", default=["330m", "1b"], choices=SIZES)
  parser.add_argument("--kernels", nargs="+", default=["auto", "gpu", "dense"])
  parser.add_argument("--steps", type=int, default=10)
  parser.add_argument("--no-tests", action="store_true", help="measure alone")
  arguments = parser.parse_args()
  try:
    mesh(platform=arguments.platform)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  wanted = {"gpu": "cuda", "cpu": "cpu"}[arguments.platform]
  passed = None if arguments.no_tests else tests(wanted)
  device, side = jax.devices()[0], max(SIZES[name].side for name in arguments.sizes)
  measured, published = flops.measured(device, side, 2.0, "bfloat16"), flops.peak(device)
  runs = [
    rated(train(name, kernel, arguments.steps), measured, published)
    for name in arguments.sizes
    for kernel in arguments.kernels
  ]
  print(table(runs, device.device_kind, measured))
  if arguments.output:
    record = {
      "device": device.device_kind, "jax": jax.__version__,
      "sizes": {name: dataclasses.asdict(SIZES[name]) for name in arguments.sizes},
      "tests_passed": passed, "matmul_tflops": measured / 1e12, "runs": runs,
    }  # fmt: skip
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
  return 0 if passed is not False and any("failed" not in run for run in runs) else 1


if __name__ == "__main__":
  sys.exit(main())
