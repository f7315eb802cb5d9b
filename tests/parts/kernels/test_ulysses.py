"""Places swapped for heads: on a mesh that cuts the sequence it is softmax of one device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from mtm import axes
from mtm.errors import UserError
from mtm.parts.kernels import prepare
from mtm.parts.kernels.blocks import Blocks
from mtm.parts.kernels.ulysses import Ulysses
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.window import Window
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.parts.kernels import cut


def test_packed_documents_and_a_learned_bias_are_those_of_one_device() -> None:
  """The bias of the heads that a device gets, of four over sequence and tensor."""
  sizes = {"data": 2, "sequence": 2, "tensor": 2}
  cut.check(*cut.both(Ulysses(), Causal(), sizes, segment_ids=(cut.packed(),) * 2))


def test_a_sparse_engine_runs_within() -> None:
  kernel = Ulysses(Blocks(block=4, scores=256, lanes=2))
  cut.check(*cut.both(kernel, Causal() & Window(5, 0), {"data": 2, "sequence": 4}))


def test_what_it_cannot_honour_is_refused() -> None:
  x = jnp.ones((2, 32, 4, 4))
  with axes.use(Plan(mesh(data=1, sequence=4, tensor=2)).activations):
    with pytest.raises(UserError, match="4 devices share the sequence and 2 the heads.* divide 4"):
      prepare(x, x, x, Causal(), kernel=Ulysses())
  with axes.use(Plan(mesh(data=2, sequence=4)).activations):
    with pytest.raises(UserError, match="drops no probabilities"):
      prepare(x, x, x, Causal(), kernel=Ulysses(), dropout=(jax.random.key(0), 0.1))
