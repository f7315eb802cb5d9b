"""TensorFlow stays in its room: all of a run but its data works where importing it raises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# `clu.metric_writers` writes TensorBoard events with TensorFlow, so it is out of bounds too.
BLOCKED = ("tensorflow", "tensorflow_datasets", "seqio", "tensorflow_text", "t5", "clu")

# Importing a module that is None raises ModuleNotFoundError, and looking for it finds nothing.
BLOCKER = f"""
import sys
sys.modules.update(dict.fromkeys({BLOCKED}))
"""

RUN = """
import functools, sys
from pathlib import Path
import jax, numpy as np, optax
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.families.llama import llama
from mtm.objectives.causal_lm import CausalLM
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.checkpoint import Checkpoints
from mtm.training.trainer import Trainer

model = llama(1, 8, 2, 8, 16)
ids = np.random.default_rng(0).integers(2, 16, (8, 6)).astype(np.int32)
batch = {"decoder_input_tokens": ids, "decoder_target_tokens": ids,
         "decoder_loss_weights": np.ones_like(ids)}
plan = Plan(mesh(devices=jax.devices()[:1]))
trainer = Trainer(model, CausalLM(), optax.adam(1e-2), plan,
                  {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batch.items()})
state = trainer.create()
losses = []
for _ in range(3):
  state, sums = trainer.train_step(state, plan.put_batch(batch))
  losses.append(float(sums.means()["loss"]))
assert losses[2] < losses[0], losses
decode = plan.jit(functools.partial(generate, model, policy=Greedy(), max_length=4))
tokens = decode(state.params, {"decoder_input_tokens": ids[:, :3]}).tokens
assert tokens.shape == (8, 1, 4)
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(state, {"note": "kept"})
checkpoints.wait()
restored, record = checkpoints.restore(3, trainer.abstract)
checkpoints.close()
jax.tree.map(np.testing.assert_array_equal, state, restored)
assert record["note"] == "kept"
loaded = {name.split(".")[0] for name, module in sys.modules.items() if module}
print("loaded", sorted(loaded & set(BLOCKED)))
"""


def python(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
  env = {**os.environ, "PYTHONPATH": str(ROOT)}
  command = [sys.executable, "-c", code, *argv]
  return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_works_where_tensorflow_and_seqio_are_absent(tmp_path: Path) -> None:
  done = python(f"{BLOCKER}\nBLOCKED = {BLOCKED}\n{RUN}", str(tmp_path / "run"))
  assert done.returncode == 0, done.stderr[-3000:]
  assert "loaded []" in done.stdout


def test_the_blocker_blocks() -> None:
  done = python(f"{BLOCKER}\nimport tensorflow")
  assert done.returncode == 1 and "import of tensorflow halted" in done.stderr


def test_importing_mtm_loads_no_library() -> None:
  done = python(
    "import sys, mtm; print({'jax', 'tensorflow', 'seqio', 'flax', 'gin'} & set(sys.modules))"
  )
  assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.mark.parametrize("package", ["mtm.data", "mtm.programs", "mtm.report", "mtm.training"])
def test_importing_a_package_loads_no_tensorflow(package: str) -> None:
  """Every module of it: gin files import them, and their check must end in two seconds."""
  code = f"""
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
for info in pkgutil.walk_packages(package.__path__, {package!r} + "."):
  importlib.import_module(info.name)
print(sorted({{"tensorflow", "seqio", "tensorflow_datasets"}} & set(sys.modules)))
"""
  done = python(code)
  assert done.returncode == 0, done.stderr[-3000:]
  assert done.stdout.strip() == "[]"
