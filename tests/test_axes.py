"""Axis names and `constrain`: nothing is replicated in silence."""

from __future__ import annotations

import contextvars
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from mtm import axes
from mtm.axes import Layout, LayoutError, constrain

RULES = {"batch": ("data", "fsdp"), "embed": (), "mlp": ("tensor",), "heads": ("tensor",)}


@pytest.fixture
def layout() -> Layout:
  devices = np.asarray(jax.devices()[:8]).reshape(2, 2, 2)
  return Layout(Mesh(devices, ("data", "fsdp", "tensor")), RULES)


def test_on_one_device_it_only_checks() -> None:
  x = jnp.ones((4, 2))
  assert constrain(x, "batch", "embed") is x
  assert constrain(x, "batch", None) is x


def test_unknown_axis_is_refused_with_the_nearest() -> None:
  with pytest.raises(LayoutError, match="unknown axis 'embde'; did you mean 'embed'"):
    constrain(jnp.ones((4, 2)), "batch", "embde")


def test_wrong_rank_is_refused() -> None:
  with pytest.raises(LayoutError, match=r"2 axis names .* for 3 dimensions"):
    constrain(jnp.ones((4, 2, 3)), "batch", "embed")


def test_a_layout_cuts_as_its_rules_say(layout: Layout) -> None:
  sharding = layout.sharding(("batch", "embed", "mlp"), (8, 3, 6))
  assert sharding.spec == PartitionSpec(("data", "fsdp"), None, ("tensor",))
  with axes.use(layout):
    y = jax.jit(lambda x: constrain(x, "batch", "embed", "mlp"))(jnp.ones((8, 3, 6)))
  assert y.sharding.shard_shape(y.shape) == (2, 3, 3)


def test_no_rule_is_refused(layout: Layout) -> None:
  with axes.use(layout), pytest.raises(LayoutError, match="no sharding rule for axis 'vocab'"):
    constrain(jnp.ones((8, 4)), "batch", "vocab")


def test_a_mesh_that_does_not_divide_says_what_would(layout: Layout) -> None:
  with pytest.raises(LayoutError) as error:
    layout.sharding(("batch", "mlp"), (6, 4), "activation")
  assert "'data×fsdp' of size 4 does not divide 'batch' = 6; sizes that do: 1, 2, 3, 6" in str(
    error.value
  )


def test_one_mesh_axis_cuts_one_dimension(layout: Layout) -> None:
  with pytest.raises(LayoutError, match="'tensor' would cut both 'heads' and 'mlp'"):
    layout.sharding(("heads", "mlp"), (4, 4))


def test_mesh_axes_of_size_one_cut_nothing() -> None:
  one = Layout(
    Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1, 1), ("data", "fsdp", "tensor")), RULES
  )
  assert one.sharding(("heads", "mlp"), (3, 5)).spec == PartitionSpec(None, None)


def test_several_devices_and_no_layout_is_an_error() -> None:
  assert jax.device_count() == 8
  fresh = contextvars.Context()  # where nobody said `axes.use`
  with pytest.raises(LayoutError, match="8 devices and no mesh"):
    fresh.run(constrain, jnp.ones((4, 2)), "batch", "embed")


def test_use_restores_what_was_there(layout: Layout) -> None:
  with axes.use(layout):
    with axes.use(None):
      assert constrain(jnp.ones((3, 2)), "batch", "embed").shape == (3, 2)
    with pytest.raises(LayoutError, match="does not divide"):
      constrain(jnp.ones((3, 2)), "batch", "embed")


def test_ways_are_the_parts_of_an_axis(layout: Layout) -> None:
  assert axes.ways("batch") == 1
  with axes.use(layout):
    assert (axes.ways("batch"), axes.ways("mlp"), axes.ways("embed")) == (4, 2, 1)


def test_a_program_is_alone_on_one_device_and_on_a_part(layout: Layout) -> None:
  with axes.use(None):
    assert axes.alone()
  one = Layout(Mesh(np.array(jax.devices()[:1]), ("data",)), {"batch": ("data",)})
  with axes.use(one):
    assert axes.alone()
  found = []
  with axes.use(layout):
    assert not axes.alone()
    x = jnp.zeros((8, 2))
    axes.local(lambda x: found.append(axes.alone()) or x, [x], [("batch", None)], ("batch", None))
  assert found[-1]  # the first is of the whole, by which shapes are found


def test_what_runs_locally_may_give_several_arrays(layout: Layout) -> None:
  x = jnp.arange(8.0).reshape(4, 2)
  with axes.use(layout):
    doubled, sums = axes.local(
      lambda x: (2 * x, jnp.sum(x, axis=1)), [x], [("batch", None)], (("batch", None), ("batch",))
    )
  np.testing.assert_array_equal(doubled, 2 * x)
  np.testing.assert_array_equal(sums, jnp.sum(x, axis=1))
  assert doubled.sharding.shard_shape(doubled.shape) == (1, 2)


def test_axes_need_no_flax() -> None:
  code = "import sys, mtm.axes; sys.exit('flax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
