"""The ragged engine on a mesh: each device does its own groups, or it says why not."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm import axes
from mtm.errors import UserError
from mtm.parts.experts.engines import Work, perform
from mtm.parts.experts.engines.einsum import Einsum
from mtm.parts.experts.engines.ragged import Ragged
from tests.parts.experts.engines.test_gather import EXPERT, outcome, work
from tests.training import tiny


def test_each_device_does_its_groups() -> None:
  layout = tiny.on({"data": 4, "fsdp": 2}).activations
  got, want = outcome(Ragged(), layout), outcome(Einsum(), None)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


def test_cut_experts_are_refused() -> None:
  x, plan, weights = work()
  with axes.use(tiny.on({"data": 2, "expert": 4}).activations):
    with pytest.raises(UserError, match="the mesh cuts 'expert'"):
      perform(Work(x, plan, EXPERT, weights), "ragged")


def test_groups_that_the_mesh_does_not_divide_are_refused() -> None:
  x, plan, weights = work()
  few = jax.tree.map(lambda a: a[:3], (x, plan))
  with axes.use(tiny.on({"data": 8}).activations):
    assert "do not divide 3 groups" in str(Ragged().supports(Work(*few, EXPERT, weights)))
