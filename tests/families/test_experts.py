"""Where layers with experts stand, and that each has parameters of its own."""

from __future__ import annotations

import functools

import jax
import pytest

from mtm.families._experts import dispatch_of, one_in, period_of, spread, with_experts
from mtm.families._names import row
from mtm.families.gpt2 import gpt2
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.switch import Switch

NO, YES = False, True


@pytest.mark.parametrize(
  ("step", "layers", "wanted"),
  [
    (2, 4, (NO, YES)),
    (1, 3, (YES,)),
    (0, 3, (NO,)),
    (3, 6, (NO, YES, NO)),
    (2, 5, (NO, YES, NO, YES, NO)),  # no whole periods: all layers are one
    (12, 12, (NO, YES) + (NO,) * 10),  # what transformers makes of "no layer has experts"
    (2, 1, (NO,)),
  ],
)
def test_one_in_some_layers_has_experts(step: int, layers: int, wanted: tuple[bool, ...]) -> None:
  assert one_in(step, layers) == wanted


def test_a_period_is_the_shortest_that_all_layers_repeat() -> None:
  assert period_of((NO, YES, NO, YES)) == (NO, YES)
  assert period_of((NO, YES, YES, NO)) == (NO, YES, YES, NO)


def test_layers_with_experts_stand_in_the_period_and_share_nothing() -> None:
  tower = gpt2(4, 8, 2, 10, max_length=4).module.decoder
  make = functools.partial(Experts, 3, Switch(), ExpertMlp(8), Dropless())
  made = with_experts(tower, make, (NO, YES))
  dense, experts = made.stack.period
  assert made.stack.repeats == 2
  assert isinstance(experts.channel, Experts) and not isinstance(dense.channel, Experts)
  assert dense.mixer == experts.mixer and dense.mixer is not experts.mixer


def test_places_in_training_are_by_factor_by_number_or_as_many_as_needed() -> None:
  assert dispatch_of(None, None) == Dropless()
  assert dispatch_of(2.0, None) == Capacity(2.0)
  assert dispatch_of(None, 3) == Capacity(size=3)


def test_the_table_of_a_dense_stack_is_spread_over_the_period() -> None:
  rows = [
    row("head", "head"), row("s/period_0/mixer/w", "l.{}.m"), row("s/period_0/channel/w", "l.{}.c")
  ]  # fmt: skip
  table = spread(rows, "s", (NO, YES), lambda path: [row(f"{path}/router", "l.{}.r")])
  told = {one.ours[0]: one.names(1)[0] for one in table}
  assert told == {
    "head": "head", "s/period_0/mixer/w": "l.2.m", "s/period_0/channel/w": "l.2.c",
    "s/period_1/mixer/w": "l.3.m", "s/period_1/channel/router": "l.3.r",
  }  # fmt: skip
  assert jax.tree.structure(told).num_leaves == len(table)
