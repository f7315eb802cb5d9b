"""What the real T5X wrote through orbax is what it wrote natively."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.interop import t5x, t5x_orbax
from mtm.interop._base import Export
from tests.families import t5x_names


@pytest.mark.parametrize("name", ["t5_1_1", "t5_tied"])
def test_parameters_and_optimizer_are_those_of_the_native_checkpoint(name: str) -> None:
  orbax = t5x_orbax.FORMAT.open(t5x_names.checkpoint("orbax", name))
  native = t5x.FORMAT.open(t5x_names.checkpoint("native", name))
  assert orbax.arguments == native.arguments
  ours, theirs = (f.params(f.model(), lambda path, values: values) for f in (orbax, native))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
  assert orbax.moments is not None and native.moments is not None
  ours, theirs = orbax.moments(), native.moments()
  assert ours.step == theirs.step
  for path in ("tokens/embedding", "decoder/stack/period_0/cross/out/kernel"):
    np.testing.assert_array_equal(ours.of(path)[0], theirs.of(path)[0])


def test_a_missing_array_is_told(tmp_path: Path) -> None:
  shutil.copytree(t5x_names.checkpoint("orbax", "t5_1_1"), tmp_path / "damaged")
  shutil.rmtree(tmp_path / "damaged" / "state" / "target.token_embedder.embedding")
  with pytest.raises(UserError, match="token_embedder.embedding is missing"):
    t5x_orbax.FORMAT.open(tmp_path / "damaged")


def test_what_we_write_is_what_t5x_wrote(tmp_path: Path) -> None:
  source = t5x_names.checkpoint("orbax", "t5_1_1")
  theirs = t5x_orbax.FORMAT.open(source)
  params = theirs.params(theirs.model(), lambda path, values: values)
  assert theirs.moments is not None
  export = Export(theirs.build, theirs.arguments, params, moments=theirs.moments())
  t5x_orbax.FORMAT.write(tmp_path / "ours", export)
  ours = t5x_orbax.FORMAT.open(tmp_path / "ours")
  assert ours.source.names() == theirs.source.names()
  for name in theirs.source.names():
    np.testing.assert_array_equal(ours.source.get(name), theirs.source.get(name), err_msg=name)
