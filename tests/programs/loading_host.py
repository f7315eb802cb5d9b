"""Parameters on a mesh, each device with its own part: `loading_host.py FOLDER COORDINATOR INDEX`.

One of two processes with four devices each; both see FOLDER, which `made` fills beforehand.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from tests.families import t5x_names

NAME = "t5_1_1"
AXES = {"data": 2, "fsdp": 2, "tensor": 2}
KINDS = ("t5x", "hf", "mtm")


def made(folder: Path) -> None:
  """The same T5 in each format."""
  from mtm import convert

  shutil.copytree(t5x_names.checkpoint("native", NAME), folder / "t5x")
  convert.convert(str(folder / "t5x"), str(folder / "hf"), "hf", compare=False)
  convert.convert(str(folder / "t5x"), str(folder / "mtm"), "mtm")


def loaded(path: Path) -> dict[str, Any]:
  """Loads a checkpoint on all devices; checks every part and tells sums of each row's logits.

  `share` is the largest share of the parameters that one device holds.
  """
  import mtm
  from mtm.sharding.mesh import mesh

  handle = mtm.load(path, mesh(**AXES), dropout=0.0)
  whole = mtm.load(path, mesh(devices=jax.local_devices()[:1])).params
  held: dict[Any, int] = {}
  total = 0
  for leaf, full in zip(jax.tree.leaves(handle.params), jax.tree.leaves(whole), strict=True):
    full = np.asarray(full)
    total += full.size
    for shard in leaf.addressable_shards:
      np.testing.assert_array_equal(np.asarray(shard.data), full[shard.index])
      held[shard.device] = held.get(shard.device, 0) + shard.data.size
  rows = 8 // jax.process_count()
  own = np.arange(8 * 6).reshape(8, 6)[rows * jax.process_index() :][:rows] % 30 + 3
  inputs = {name: own.astype(np.int32) for name in handle.model.inputs}
  logits = handle.plan.jit(handle.model.apply)(handle.params, handle.plan.put_batch(inputs)).logits
  everywhere = multihost_utils.process_allgather(logits, tiled=True)
  found = {"share": max(held.values()) / total, "logits": np.abs(everywhere).sum((1, 2)).tolist()}
  if path.name == KINDS[-1]:
    found |= answered(handle, own, everywhere[rows * jax.process_index() :][:rows])
  return found


def answered(handle: Any, own: np.ndarray, wanted: np.ndarray) -> dict[str, Any]:
  """What a handle says of this host's rows `[rows, length]`; `wanted`: their logits."""
  few = len(own) - 1 - jax.process_index()  # hosts need not have as many
  told = handle.logits({name: own[:few].astype(np.int32) for name in handle.model.inputs})
  np.testing.assert_allclose(told, wanted[:few], rtol=1e-5, atol=1e-5)
  asked = own.tolist()
  return {
    "tokens": handle.generate(asked, 4), "scores": handle.score(asked, asked),
    "states": [float(np.abs(x).sum()) for x in handle.encode(asked)],
  }  # fmt: skip


def begun(path: Path) -> dict[str, Any]:
  """What training begins from: the step, every part of the state checked; and two losses."""
  from mtm.families.t5 import t5
  from mtm.objectives.seq2seq import Seq2Seq
  from mtm.programs import initial
  from mtm.sharding.mesh import mesh
  from mtm.sharding.plan import Plan
  from mtm.training.optimizers.adafactor import adafactor
  from mtm.training.trainer import Trainer

  arrays = t5x_names.load(NAME)
  batch = {k.removeprefix("in/"): x for k, x in arrays.items() if k.startswith("in/")}
  batch = {k: np.resize(x, (8, *x.shape[1:])) for k, x in batch.items()}
  shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batch.items()}

  def on(layout: Any) -> tuple[Trainer, Any]:
    model = t5(2, 16, 2, 8, 24, 64, dropout=0.0)
    run = Trainer(model, Seq2Seq(), adafactor(1e-2), Plan(layout), shapes)
    return run, initial.state(run, str(path))[0]

  _, sharded = on(mesh(**AXES))
  _, whole = on(mesh(devices=jax.local_devices()[:1]))
  for tree in ("params", "opt_state"):
    for leaf, full in zip(*(jax.tree.leaves(getattr(s, tree)) for s in (sharded, whole)),
                          strict=True):  # fmt: skip
      for shard in leaf.addressable_shards:
        np.testing.assert_array_equal(shard.data, np.asarray(full)[shard.index])
  # Gloo on few cores may wait forever for the many collectives of a step on several axes.
  run, state = on(mesh())
  losses, rows = [], 8 // jax.process_count()
  own = {k: x[rows * jax.process_index() :][:rows] for k, x in batch.items()}
  for _ in range(2):
    state, sums = run.train_step(state, run.plan.put_batch(own))
    sums = jax.device_get(sums)
    losses.append(float(sums.loss) / float(sums.weight))
  return {"step": int(sharded.step), "losses": losses}


def told(folder: Path) -> dict[str, Any]:
  """All of it."""
  found = {kind: loaded(folder / kind) for kind in KINDS}
  return {**found, "begun": {kind: begun(folder / kind) for kind in KINDS[::2]}}


if __name__ == "__main__":
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[3]))
  assert jax.device_count() == 8 and jax.local_device_count() == 4
  print(json.dumps(told(Path(sys.argv[1]))), flush=True)
