"""`mtm infer`: a checkpoint, examples in, JSON rows out."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

from mtm import config
from mtm.programs import published, setup
from mtm.programs.examples import Source
from mtm.programs.modes import Mode, Setting
from mtm.programs.rows import Printed, Rows
from mtm.sharding.mesh import Mesh
from mtm.types import Model


def infer(
  model: Model,
  mesh: Mesh,
  checkpoint_path: str,
  output_dir: str,
  source: Source,
  mode: Mode,
  vocabulary: Any = None,
  batch_size: int = 32,
  seed: int = 0,
  bidirectional_prefix: bool = False,
  shard_id: int = 0,
  num_shards: int = 1,
) -> None:
  """Writes one row an example; the same command goes on where an interrupted one ended.

  Args:
    model: what was trained.
    mesh: the devices.
    checkpoint_path: a MODEL_DIR, or one checkpoint of it.
    output_dir: where rows go; `-` is standard output.
    source: where examples come from.
    mode: what is asked for each.
    vocabulary: text ↔ ids; None: the one that lies beside the checkpoint.
    batch_size: examples together.
    seed: decides samples.
    bidirectional_prefix: whether a decoder reads its prompt in both directions.
    shard_id, num_shards: this process takes examples shard_id, shard_id + num_shards, ...
  """
  setup.start()
  plan, params = published.parameters(model, mesh, checkpoint_path)
  # A vocabulary that is bound is not the original's.
  framed = vocabulary is None and published.framed(checkpoint_path)
  vocabulary = vocabulary or published.vocabulary(checkpoint_path)
  special = published.special(checkpoint_path)
  setting = Setting(
    model, params, plan, vocabulary, batch_size, bidirectional_prefix, seed, special.begin_id,
    special.eos_id, special.generation,
  )  # fmt: skip
  encoder = "encoder_input_tokens" in model.inputs
  examples = source.examples(vocabulary, encoder, framed)
  if output_dir == "-":
    rows: Any = Printed()
  else:
    request = {"config": config.current_text(), "shard": [shard_id, num_shards]}
    rows = Rows(output_dir, request, (shard_id, num_shards))
  start = shard_id + rows.done * num_shards
  mine = itertools.islice(enumerate(examples), start, None, num_shards)
  try:
    for row in mode.rows(setting, mine):
      rows.write(row)
  finally:
    rows.close()


def main(argv: Sequence[str] | None = None) -> int:
  """The command line, see `mtm infer --help`."""
  return config.main(infer, argv)


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["infer", *sys.argv[1:]]))
