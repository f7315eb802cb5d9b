"""What `prepare` gives a kernel; what kernels do with it is in tests/contracts/test_kernels.py."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.kernels import Request, prepare
from mtm.parts.kernels._choose import drop
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.segment import SameSegment


@dataclasses.dataclass
class Recorder:
  """A kernel that supports everything."""

  def supports(self, request: Request) -> str | None:
    return None

  def cost(self, request: Request) -> float:
    return 0.0

  def __call__(self, request: Request) -> jax.Array:
    return request.q


def asked(**fields: object) -> Request:
  recorder = Recorder()
  q = jnp.zeros((2, 4, 2, 16))
  engine, request = prepare(q, q, q, Causal(), kernel=recorder, **fields)
  assert engine is recorder
  return request


def test_defaults_are_in_the_request() -> None:
  request = asked()
  assert request.scale == pytest.approx(1 / 4)
  assert request.aligned
  np.testing.assert_array_equal(request.q_place, np.arange(4))
  assert request.pattern == Causal()


def test_segments_become_a_pattern_and_a_label() -> None:
  ids = jnp.ones((2, 4), int)
  request = asked(segment_ids=(ids, ids))
  assert request.pattern == Causal() & SameSegment()
  assert set(request.labels) == {"segment"}


def test_places_of_decoding_are_not_aligned() -> None:
  request = asked(positions=(jnp.full((2, 4), 7), jnp.arange(4)), scale=1.0)
  assert not request.aligned and request.scale == 1.0


def test_no_dropout_is_the_identity() -> None:
  p = jnp.ones((2, 3))
  assert drop(p, None) is p and drop(p, (jax.random.key(0), 0.0)) is p
