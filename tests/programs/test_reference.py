"""The comparison with an original finds what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtm.errors import UserError
from mtm.interop import t5x
from mtm.programs import reference
from tests.families import t5x_names


def test_a_file_of_t5x_agrees_and_a_shifted_one_does_not() -> None:
  foreign = t5x.FORMAT.open(t5x_names.checkpoint("native", "t5_tied"))
  model = foreign.model(dropout=0.0)
  params = foreign.params(model, lambda path, values: values)
  told = reference.from_file(t5x_names.FIXTURES / "t5_tied.npz")
  found = reference.compare(model, params, told)
  assert found.largest < 1e-5 and found.same == 1.0
  off = told.logits.copy()
  off[0, 0, 3] += 100
  worse = reference.compare(model, params, reference.Reference("off", told.batch, off))
  assert worse.largest > 50 and worse.same < 1.0
  short = reference.Reference("short", told.batch, told.logits[:, :-1])
  with pytest.raises(UserError, match="of another model or batch"):
    reference.compare(model, params, short)


def test_a_file_without_logits_is_told(tmp_path: Path) -> None:
  np.savez(tmp_path / "a.npz", x=np.zeros(1))
  with pytest.raises(UserError, match="holds no 'logits', but x"):
    reference.from_file(tmp_path / "a.npz")
  (tmp_path / "b.npz").write_text("no")
  with pytest.raises(UserError, match="is no npz file of logits"):
    reference.from_file(tmp_path / "b.npz")
