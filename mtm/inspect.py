"""`mtm inspect`: every parameter of a gin file's model, or of a checkpoint, as a table."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from mtm import axes, config
from mtm.errors import UserError
from mtm.programs import loading, setup
from mtm.report import tables
from mtm.sharding.plan import Plan
from mtm.training import checkpoint
from mtm.types import Model


def rows(model: Model, plan: Plan) -> Iterator[tables.Parameter]:
  """The parameters of a model on a mesh: nothing is allocated."""
  with axes.use(None):
    names = model.axes(loading.example(model))
  shapes = loading.abstract_parameters(model, plan)
  leaves = jax.tree_util.tree_flatten_with_path(shapes)[0]
  is_names = lambda x: isinstance(x, tuple)  # noqa: E731
  for (path, leaf), named in zip(leaves, jax.tree.leaves(names, is_leaf=is_names), strict=True):
    spec = tuple(leaf.sharding.spec) + (None,) * (leaf.ndim - len(leaf.sharding.spec))
    share = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    yield tables.Parameter(_joined(path), leaf.shape, named, spec, leaf.size, share)


def checkpoint_rows(path: str) -> Iterator[tables.Parameter]:
  """The parameters of a checkpoint, without reading one."""
  for where, leaf in jax.tree_util.tree_flatten_with_path(checkpoint.shapes(path))[0]:
    size, whole = math.prod(leaf.shape), (None,) * len(leaf.shape)
    share = size * leaf.dtype.itemsize
    yield tables.Parameter(_joined(where), leaf.shape, whole, whole, size, share)


def _joined(path: Any) -> str:
  return "/".join(str(key.key) for key in path)


def _plan(loaded: config.Config) -> Plan:
  """The gin files' mesh and rules, or all devices along the batch and the table."""
  from mtm.sharding.mesh import mesh

  own = loaded.value("MESH") if loaded.defines("MESH") else mesh()
  return Plan.of(own, loaded.value("RULES") if loaded.defines("RULES") else None)


def main(argv: Sequence[str] | None = None) -> int:
  """The command line; prints the table."""
  parser = argparse.ArgumentParser("mtm inspect", description=__doc__, allow_abbrev=False)
  parser.add_argument("checkpoint", nargs="?", help="a MODEL_DIR, or one checkpoint of it")
  parser.add_argument("--gin_file", action="append", default=[], help="defines MODEL (and MESH)")
  parser.add_argument("--gin_search_paths", default="", help="further folders, comma-separated")
  known, rest = parser.parse_known_args(argv)
  setup.start()
  if known.gin_file and known.checkpoint:
    raise UserError(f"mtm inspect: {known.checkpoint} and --gin_file=...: give one of the two")
  if known.gin_file:
    paths = [p for p in known.gin_search_paths.split(",") if p]
    loaded = config.load(None, known.gin_file, config.bindings_of(rest), paths)
    title = ", ".join(known.gin_file)
    table = rows(loaded.value("MODEL"), _plan(loaded))
  elif known.checkpoint and not rest:
    title, table = str(checkpoint.find(known.checkpoint)), checkpoint_rows(known.checkpoint)
  else:
    raise UserError(
      f"mtm inspect: {' '.join(rest) or 'nothing was given'}: give a checkpoint, or --gin_file=..."
    )
  tables.show(tables.parameters(table, title))
  return 0


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["inspect", *sys.argv[1:]]))
