"""Keys that travel: on a mesh that cuts the sequence it is softmax of one device, dropout too."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.parts.kernels import attend, prepare
from mtm.parts.kernels.ring import Ring
from mtm.parts.kernels.ulysses import Ulysses
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.global_places import Global
from mtm.parts.patterns.window import Window
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.parts.kernels import cut

SEQUENCE = {"data": 1, "sequence": 4, "tensor": 2}


def test_packed_documents_a_learned_bias_and_dropout_are_those_of_one_device() -> None:
  """Eight chunks, folded; the same probabilities are dropped as on one device."""
  extra = {"segment_ids": (cut.packed(),) * 2, "dropout": (jax.random.key(3), 0.25)}
  cut.check(*cut.both(Ring(block=2), Causal(), SEQUENCE, kv_heads=2, **extra))


def test_a_window_with_global_places_is_that_of_one_device() -> None:
  """Nothing to fold, and examples are cut too."""
  pattern = Window(3, 3) | Global((0, 17))
  cut.check(*cut.both(Ring(), pattern, {"data": 2, "sequence": 4}))


def lowered(pattern) -> str:
  x = jnp.ones((8, 64, 2, 4))
  plan = Plan(mesh(data=1, sequence=8))
  run = lambda x: attend(x, x, x, pattern, kernel=Ring())  # noqa: E731
  return plan.jit(run).lower(x).as_text()


def test_a_window_asks_its_neighbours_only() -> None:
  """Turns at which nobody sees anything are not made: two arrays come from one neighbour."""
  assert lowered(Causal() & Window(3, 0)).count("collective_permute") == 2
  assert lowered(Window(3, 3)).count("collective_permute") == 4


def test_a_full_circle_is_a_loop_whatever_the_number_of_devices() -> None:
  assert lowered(Full()).count("collective_permute") == 2


@dataclasses.dataclass
class Chosen:
  plan: Plan

  def __call__(self, heads=4, kv_heads=4, dropout=None, pattern=None, **extra) -> object:
    x, y = jnp.ones((2, 32, heads, 4)), jnp.ones((2, 32, kv_heads, 4))
    with axes.use(self.plan.activations):
      return prepare(x, y, y, pattern or Causal(), dropout=dropout, **extra)[0]


def test_where_the_sequence_is_cut_it_is_shared_by_circle_or_exchange() -> None:
  choose = Chosen(Plan(mesh(data=1, sequence=4, tensor=2)))
  assert isinstance(choose(heads=8, kv_heads=8), Ulysses)
  assert isinstance(choose(heads=8, kv_heads=2), Ring)  # too few key heads to go round
  assert isinstance(choose(heads=8, kv_heads=8, dropout=(jax.random.key(0), 0.1)), Ring)
  # A narrow window sends less by the circle than by the exchange of all heads.
  near = Causal() & Window(2, 0)
  assert isinstance(choose(heads=16, kv_heads=8, pattern=near), Ring)
  one = Chosen(Plan(mesh(data=8)))
  assert not isinstance(one(), Ring | Ulysses)


@pytest.mark.parametrize(
  "kv_heads, extra, reason",
  [
    (1, {}, "cuts kv_heads into 2, which does not divide 1"),
    (4, {"bias": np.zeros((1, 4, 32, 32), np.float32)}, "give it as a rule"),
    (4, {"positions": (jnp.arange(32), jnp.arange(32))}, "must stand at 0, 1, 2"),
  ],
)
def test_what_it_cannot_honour_is_refused(kv_heads, extra, reason) -> None:
  choose = Chosen(Plan(mesh(**SEQUENCE)))
  with pytest.raises(Exception, match=f"Ring cannot run this: .*{reason}"):
    choose(kv_heads=kv_heads, kernel=Ring(), **extra)
