"""Arrays in pieces: every place is covered once, and what orbax wrote or reads is the same."""

from __future__ import annotations

import contextlib
from pathlib import Path

import jax
import numpy as np
import pytest

from mtm.training import checkpoint
from mtm.training.pieces import Stored, grid

VALUES = np.arange(6 * 5 * 7, dtype=np.float32).reshape(6, 5, 7)


@pytest.mark.parametrize("chunk", [(6, 5, 7), (2, 5, 3), (4, 1, 7)])
def test_a_grid_covers_every_place_once(chunk: tuple[int, ...]) -> None:
  seen = np.zeros(VALUES.shape, int)
  for index in grid(VALUES.shape, chunk):
    assert all(s <= c for s, c in zip(seen[index].shape, chunk, strict=True))
    seen[index] += 1
  assert (seen == 1).all()
  assert list(grid((), ())) == [()]


def test_a_parameter_written_in_chunks_is_read_in_pieces_and_by_orbax(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 200)
  checkpoint.save_params(tmp_path, {"a": {"b": VALUES}, "c": np.float32(3)}, {"tokens": 0.0})
  found = dict(checkpoint.parameters(tmp_path, {"a/b": VALUES.shape, "c": ()}))
  stored = found["a/b"]
  assert (stored.shape, stored.dtype) == (VALUES.shape, VALUES.dtype)
  whole = np.zeros_like(VALUES)
  pieces = list(stored.pieces())
  for index, part in pieces:
    assert part.nbytes <= 200
    whole[index] = part
  np.testing.assert_array_equal(whole, VALUES)
  assert len(pieces) > 4
  np.testing.assert_array_equal(stored[1:3, :, 2], VALUES[1:3, :, 2])
  assert float(found["c"][()]) == 3
  abstract = {"a": {"b": jax.ShapeDtypeStruct(VALUES.shape, np.float32)},
              "c": jax.ShapeDtypeStruct((), np.float32)}  # fmt: skip
  orbax = checkpoint.restore_params(tmp_path, abstract)
  np.testing.assert_array_equal(orbax["a"]["b"], VALUES)


def test_an_array_that_is_gone_is_no_zeros(tmp_path: Path) -> None:
  where = checkpoint.save_params(tmp_path, {"a": VALUES}, {})
  with pytest.raises(ValueError, match="does not exist|NOT_FOUND"):
    Stored(where / "params", "b", contextlib.nullcontext)
