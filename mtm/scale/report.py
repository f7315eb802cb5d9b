"""What a program compiled for a slice tells, as one JSON-able object."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from mtm.scale import census, groups, hlo, memory, replicated, roofline
from mtm.scale.census import Body
from mtm.scale.chips import GIB
from mtm.scale.program import Compiled, abstract_batch
from mtm.scale.topology import Topology
from mtm.sharding.plan import Plan
from mtm.training import flops
from mtm.training.trainer import Trainer
from mtm.types import Params

Report = dict[str, Any]


def of_training(trainer: Trainer, topology: Topology, made: Compiled) -> Report:
  """The report of a training step.

  Args:
    trainer: whose step it is.
    topology: what it was compiled for.
    made: what became of it.

  Returns:
    `fits`, `topology`, `chips`, `parameters`, `hbm_gib_per_chip` (`peak`, `limit` and categories,
    see `memory.of_step`), `collectives` (kind → runs, bytes on each link, seconds), `trace_seconds`
    and `compile_seconds`, `predicted` (a roofline's: `step_seconds`, `mfu`, ...), `replicated`
    (whole arrays over 64 MiB), `mesh`, `batch`, `message` (the compiler's, where it does not fit).
  """
  state = trainer.abstract
  report = _frame(trainer.plan, topology, made, state.params)
  report["batch"] = {name: list(shape.shape) for name, shape in trainer.batch.items()}
  report["microbatches"] = trainer.microbatches
  model_flops = flops.training_step(
    trainer.model.apply, trainer.objective, trainer.shapes.params, trainer.batch
  )
  report["model_flops"] = model_flops
  if made.executable is None:
    held = {
      "parameters": memory.shard_bytes(state.params),
      "optimizer": memory.shard_bytes(state.opt_state),
      "batch": memory.shard_bytes(abstract_batch(trainer)),
    }
    return _refused(report, made, held)
  program = hlo.parse(made.text)
  analysis = made.executable.memory_analysis()
  held = memory.of_step(analysis, program, state, abstract_batch(trainer))
  report["hbm_gib_per_chip"] |= _gib(held)
  body = census.census(program, groups.places_of(trainer.plan.mesh.devices.flat))
  found = replicated.giants(state, body, trainer.plan.mesh.size)
  report["replicated"] = [{"name": g.name, "gib": g.bytes / GIB, "why": g.why} for g in found]
  kernels = made.kernel_flops / trainer.plan.mesh.size
  predicted = roofline.predict(body, topology, kernels, made.quick)
  whole = predicted.step * trainer.plan.mesh.size * topology.chip.flops
  return _measured(report, body, topology) | {
    "predicted": _seconds(predicted) | {"mfu": model_flops / whole if whole else math.nan}
  }


def of_decoding(
  plan: Plan, topology: Topology, made: Compiled, params: Params, rows: int
) -> Report:
  """The report of a generation program, see `of_training`; `predicted` is of one token of all rows,
  and has `prefill_seconds`, all that stands before the loop."""
  report = _frame(plan, topology, made, params)
  if made.executable is None:
    return _refused(report, made, {"parameters": memory.shard_bytes(params)})
  program = hlo.parse(made.text)
  held = memory.of_decoding(made.executable.memory_analysis(), params)
  report["hbm_gib_per_chip"] |= _gib(held)
  body = census.census(program, groups.places_of(plan.mesh.devices.flat))
  found = replicated.giants(params, body, plan.mesh.size)
  report["replicated"] = [{"name": g.name, "gib": g.bytes / GIB, "why": g.why} for g in found]
  loop = _token(body)
  turn = dataclasses.replace(loop, trips=1)
  step, every, whole = (
    roofline.predict(b, topology, hidden=made.quick) for b in (turn, loop, body)
  )
  predicted = _seconds(step) | {
    "prefill_seconds": max(whole.step - every.step, 0.0),
    "tokens_per_second": rows / step.step if step.step else math.nan,
  }
  return _measured(report, turn, topology) | {"predicted": predicted}


def _token(body: Body) -> Body:
  """The loop over tokens: of those that the entry runs the last, since prompts come before."""
  loops = list(body.inner)
  return loops[-1] if loops else body


def _frame(plan: Plan, topology: Topology, made: Compiled, params: Params) -> Report:
  return {
    "fits": made.executable is not None,
    "topology": topology.name,
    "chips": topology.chips,
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    "hbm_gib_per_chip": {"limit": topology.chip.hbm / GIB},
    "collectives": {},
    "trace_seconds": made.trace_seconds,
    "compile_seconds": made.compile_seconds,
    "quick": made.quick,
    "predicted": None,
    "replicated": [],
    "mesh": {name: size for name, size in plan.mesh.shape.items() if size > 1},
    "message": made.message,
  }


def _refused(report: Report, made: Compiled, held: Mapping[str, int]) -> Report:
  """Of a program that does not fit: what is known without it."""
  wanted = made.wanted
  told = {} if wanted is None else {"peak": wanted[0], "limit": wanted[1]}
  report["hbm_gib_per_chip"] |= _gib({**held, **told})
  return report


def _gib(held: Mapping[str, float]) -> dict[str, float]:
  return {name: value / GIB for name, value in held.items()}


def _seconds(predicted: roofline.Prediction) -> dict[str, Any]:
  return {
    "step_seconds": predicted.step,
    "compute_seconds": predicted.compute,
    "products_seconds": predicted.products,
    "memory_seconds": predicted.memory,
    "links_seconds": predicted.links,
    "exposed_seconds": predicted.exposed,
    "by": "a roofline of published peaks; not measured",
  }


def _measured(report: Report, body: Body, topology: Topology) -> Report:
  kinds: dict[str, dict[str, float]] = {}
  for times, collective in body.communication():
    one = kinds.setdefault(
      collective.kind, {"runs": 0, "gib": 0.0, "ici_gib": 0.0, "dcn_gib": 0.0, "seconds": 0.0}
    )
    wire = roofline.wire(collective, topology)
    one["runs"] += times
    one["gib"] += times * collective.bytes / GIB
    one["ici_gib"] += times * wire.ici / GIB
    one["dcn_gib"] += times * wire.dcn / GIB
    one["seconds"] += times * wire.seconds
  return report | {
    "collectives": kinds,
    "flops_per_chip": body.flops,
    "hbm_traffic_gib": body.bytes / GIB,
    "open_loops": body.loops_not_counted,
  }
