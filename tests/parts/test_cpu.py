"""What is put in order or copied stays what it was, and only a program for one CPU is told."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.parts import _cpu
from tests.training import tiny

X = jax.ShapeDtypeStruct((8, 16), jnp.float32)


def told(layout: axes.Layout | None) -> bool:
  """Whether XLA is given a layout."""
  with axes.use(layout):
    return "LayoutConstraint" in jax.jit(lambda x: _cpu.in_order(x.T)).lower(X).as_text()


def test_only_a_program_for_one_cpu_is_told() -> None:
  if not axes.is_for("cpu"):
    assert not told(None)
    pytest.skip("for CPU")
  assert told(None) and told(tiny.one_device().activations)
  # An older XLA would gather all parts of an array that a mesh cuts.
  assert not told(tiny.on({"data": 8}).activations)


def test_it_changes_no_value_and_no_gradient() -> None:
  x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)

  def turned(x: jax.Array) -> jax.Array:
    return jax.vmap(lambda one: _cpu.in_order(_cpu.copied(one.T)))(x)

  with axes.use(None):
    out, pull = jax.vjp(jax.jit(turned), x)
    (back,) = pull(out)
  np.testing.assert_array_equal(out, x.swapaxes(1, 2))
  np.testing.assert_array_equal(back, x)


def test_xla_does_not_fold_the_factor_by_which_a_row_is_copied_by_vectors() -> None:
  def factors(layout: axes.Layout | None) -> int:
    with axes.use(layout):
      program = jax.jit(lambda x: _cpu.in_order(_cpu.copied(x.T))).lower(X).compile()
    return program.as_text().count(" multiply(")

  assert factors(None) == axes.is_for("cpu")
  assert factors(tiny.on({"data": 8}).activations) == 0
