"""`mtm train`: pretraining and fine-tuning, from the parts that a gin file names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import optax

from mtm import config, tasks
from mtm.data.pipeline import Dataset
from mtm.errors import UserError
from mtm.parts.matmul import Matmul
from mtm.parts.remat import Policy
from mtm.parts.stages import Piping
from mtm.programs import ending, published, setup
from mtm.programs.history import History, Report
from mtm.programs.initial import state as from_initial
from mtm.programs.loading import VOCABULARY
from mtm.programs.special import Special
from mtm.programs.upcycling import Upcycle
from mtm.report.progress import Progress, Status
from mtm.sharding.mesh import Mesh
from mtm.sharding.plan import Plan
from mtm.sharding.rules import Rule
from mtm.training import checkpoint, flops, loop
from mtm.training.actions import Evaluate, Log, Save
from mtm.training.collapse import Collapse, Watch
from mtm.training.memory import Memory
from mtm.training.metrics import MetricsWriter
from mtm.training.precision import LossScale, NoScale
from mtm.training.state import TrainState
from mtm.training.trainer import Trainer
from mtm.types import Model, Objective


def train(
  model: Model,
  objective: Objective,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  train_data: Dataset,
  model_dir: str,
  total_steps: int,
  relative_steps: int | None = None,
  eval_data: Dataset | None = None,
  initial_checkpoint: str | None = None,
  fallback_to_scratch: str | None = None,
  upcycle: Upcycle | None = None,
  parameters_only: bool = False,
  seed: int = 0,
  eval_period: int = 1000,
  checkpoint_period: int = 1000,
  keep_checkpoints: int | None = 3,
  log_period: int = 1,
  microbatches: int = 1,
  loss_scale: NoScale | LossScale = NoScale(),  # noqa: B008 (frozen)
  normalizer: float | None = None,
  hardware_rng: bool = False,
  extras: Sequence[loop.Action] = (),
  held_out_text: Callable[[], bytes] | None = None,
  collapse: Collapse = Collapse(),  # noqa: B008 (frozen)
  rules: Mapping[str, Rule] | None = None,
  pipeline: Piping | None = None,
  remat: Policy | None = None,
  matmul: Matmul | None = None,
  memory: Memory = Memory(),  # noqa: B008 (frozen)
) -> None:
  """Trains until `total_steps`, and goes on where an interrupted run of `model_dir` ended.

  Args:
    model, objective, optimizer, mesh: what is trained, on what, how and where.
    train_data, eval_data: batches; no `eval_data`: no evaluation.
    model_dir: where everything of the run lies.
    total_steps: steps in all, those before an `initial_checkpoint` included.
    relative_steps: instead of `total_steps`: steps from the initial checkpoint on.
    initial_checkpoint: a MODEL_DIR or checkpoint, also of another library, that a new run begins
      from, see `mtm.programs.initial`.
    fallback_to_scratch: parameters that may begin afresh where that checkpoint is of another model.
    upcycle: how the experts of this model are made of that checkpoint's dense layers.
    parameters_only: whether of that checkpoint only the parameters are taken: the optimizer and the
      step begin anew.
    seed: decides initial parameters and dropout, the same on every mesh.
    eval_period, checkpoint_period, log_period: steps between two of each.
    keep_checkpoints: how many of the newest; None: all.
    microbatches, loss_scale, normalizer: see `mtm.training.step.train_step`.
    hardware_rng: see `setup.start`.
    extras: further actions, such as `sampling.Sample`.
    held_out_text: gives the bytes of the held-out split, to compare the model with compressors.
    collapse: when to raise the alarm over experts that nobody wants, or that all want.
    rules: which mesh axes cut what, see `mtm.sharding.rules`; None: its table.
    pipeline: how layers run that the mesh cuts into stages, see `mtm.parts.stages`; None: each
      is brought to every device when its turn comes.
    remat: what layers keep for their backward pass, see `mtm.parts.remat`; None: as the model says.
    matmul: how dense layers multiply, see `mtm.parts.matmul`; None: as the model says.
    memory: how the state is kept between steps.

  Raises:
    UserError: anything that the user can mend.
  """
  setup.start(hardware_rng)
  plan, home, model = Plan.of(mesh, rules), Path(model_dir), model.fitted(remat, matmul)
  plain, model = model, model if pipeline is None else pipeline.applied(model)
  first = jax.process_index() == 0
  with Status("Preparing the data"):
    setup.check(model, objective, train_data)
    special = _special(model, train_data, home, initial_checkpoint)
    train_data = train_data.beginning(special.begin_id or 0)
    shapes = {n: jax.ShapeDtypeStruct(*s) for n, s in train_data.shapes(objective).items()}
    host = jax.process_index(), jax.process_count()
    batches = train_data.batches(objective, host, gather=setup.gathered)
  trainer = Trainer(
    model, objective, optimizer, plan, shapes, seed, microbatches, normalizer, loss_scale, memory
  )
  checkpoints = checkpoint.Checkpoints(home, keep_checkpoints)
  initial = (initial_checkpoint, fallback_to_scratch, upcycle, parameters_only)
  state, record = _begin(trainer, checkpoints, *initial)
  if "data" in record:
    batches.restore(record["data"])
  step = int(state.step)
  if relative_steps is not None:
    total_steps = relative_steps + record.get("first_step", 0)
  history = History(config.current_text(), {**record, "special": special.json()})
  run = loop.Run(
    trainer, batches, state, step, total_steps, tokens_before=record.get("tokens", 0.0),
    model_dir=home, begin_id=special.begin_id or 0,
  )  # fmt: skip
  writer = MetricsWriter(home) if first else None
  if writer is not None:
    writer.truncate(step)
    _write_configs(home, history.config)
    train_data.vocabulary().save(home / VOCABULARY)
  with Progress(total_steps, step) as progress:
    run.note = progress.note if first else _silent
    if pipeline is not None:
      run.note(pipeline.told(plan.mesh.shape["stage"]))
    show = progress.update if first else _silent
    run.observers.append(Log(run, writer, show, log_period, lambda: _flops(trainer, plain)))
    run.observers.append(Watch(collapse, run.note, home if first else None))
    actions: list[loop.Action] = []
    if eval_data is not None:
      eval_data = eval_data.beginning(special.begin_id or 0)
      actions.append(Evaluate(eval_data, eval_period, eval_data.split, writer))
    actions += [*extras, Save(checkpoints, checkpoint_period, history.record)]
    actions.append(Report(history, train_data, checkpoint_period, tasks.licences()))
    loop.train(run, actions)
  checkpoints.close()
  batches.close()
  if writer is not None:
    writer.close()
    ending.summary(run, history, held_out_text).show()
  if run.stop is not None:
    raise SystemExit(143 if run.stop == "SIGTERM" else 130 if run.stop == "SIGINT" else 0)


def _begin(
  trainer: Trainer,
  checkpoints: checkpoint.Checkpoints,
  initial: str | None,
  fresh: str | None,
  upcycle: Upcycle | None,
  parameters_only: bool,
) -> tuple[TrainState, dict[str, Any]]:
  """The state to go on from and its record: this run's newest, the initial one's, or a new one."""
  newest = checkpoints.latest()
  if newest is not None:
    return checkpoints.restore(newest, trainer.abstract)
  if initial is not None:
    return from_initial(trainer, initial, fresh, upcycle, parameters_only)
  if upcycle is not None:
    raise UserError(
      "`upcycle` makes experts of a checkpoint: set `initial_checkpoint` to a dense one"
    )
  return trainer.create(), {}


def _special(model: Model, data: Dataset, home: Path, initial: str | None) -> Special:
  """What begins and ends the run's sequences: as before, or as the initial checkpoint says."""
  with contextlib.suppress(UserError):
    return Special.of(checkpoint.record(home).get("special", {}))
  begun = Special() if initial is None else published.special(initial)
  return begun.trained(model, data, str(initial))


def _flops(trainer: Trainer, plain: Model) -> tuple[float | None, float | None]:
  """FLOPs of a step of the model, as it is without a pipeline whose stages also run while they
  wait; and the peak FLOP/s of all devices."""
  peak = flops.peak(trainer.plan.mesh.devices.flat[0])
  step = flops.training_step(plain.apply, trainer.objective, trainer.shapes.params, trainer.batch)
  return step, None if peak is None else peak * trainer.plan.mesh.size


def _write_configs(home: Path, operative: str) -> None:
  """`config.gin` runs this job again; its parts are for `mtm infer` and `mtm eval`."""
  if operative:  # absent where `train` is called from Python
    (home / "config.gin").write_text(operative)
    for macro in ("MODEL", "OBJECTIVE"):
      with contextlib.suppress(UserError):  # a run file may name its model without the macro
        (home / f"{macro.lower()}.gin").write_text(config.current_text(macro))


def _silent(*_: Any) -> None:
  """What other hosts than the first show."""


def main(argv: Sequence[str] | None = None) -> int:
  """The command line, see `mtm train --help`."""
  return config.main(train, argv)


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["train", *sys.argv[1:]]))
