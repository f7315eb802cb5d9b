"""The device mesh: sizes that fit, and what is said when they do not."""

from __future__ import annotations

import jax
import pytest

from mtm.errors import UserError
from mtm.sharding.mesh import AXES, mesh


def test_all_devices_go_to_data_by_default():
  assert mesh().shape == {axis: 8 if axis == "data" else 1 for axis in AXES}


def test_minus_one_takes_what_is_left():
  shape = mesh(data=2, fsdp=-1, tensor=2).shape
  assert (shape["data"], shape["fsdp"], shape["tensor"]) == (2, 2, 2)


def test_tensor_neighbours_are_neighbouring_devices():
  """Tensor parallelism talks most, so its groups are the innermost, the closest devices."""
  ids = [[d.id for d in row] for row in mesh(data=2, tensor=4).devices.reshape(2, 4)]
  assert ids == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_mesh_over_some_devices():
  assert mesh(fsdp=2, devices=jax.devices()[2:6]).shape["data"] == 2


@pytest.mark.parametrize(
  "sizes, culprit",
  [
    ({"data": 3}, "data=3"),
    ({"data": 2, "tensor": 8}, "data=2 × tensor=8"),
    ({"data": -1, "fsdp": 3}, "data=-1 × fsdp=3"),
    ({"data": 1}, "data=1"),
  ],
)
def test_sizes_that_do_not_multiply_to_the_devices_are_refused(sizes, culprit):
  with pytest.raises(UserError, match=f"mesh {culprit} does not fit 8 cpu devices.*1, 2, 4, 8"):
    mesh(**sizes)


def test_two_open_sizes_are_refused():
  with pytest.raises(UserError, match="data and fsdp are both -1"):
    mesh(data=-1, fsdp=-1)


@pytest.mark.parametrize("size", [0, -2])
def test_a_size_below_one_is_refused(size):
  with pytest.raises(UserError, match=f"mesh axis tensor = {size}"):
    mesh(tensor=size)


@pytest.mark.parametrize("error", [RuntimeError("no plugin\nfor cuda"), AssertionError()])
def test_an_absent_default_platform_is_an_error_too(monkeypatch, error):
  """`JAX_PLATFORMS=cuda` without a GPU: JAX raises either, by what is installed."""

  def devices(platform=None):
    raise error

  monkeypatch.setattr(jax, "devices", devices)
  with pytest.raises(UserError, match=r"JAX_PLATFORMS=cpu\) is not there; JAX sees: none") as told:
    mesh()
  assert "\n" not in str(told.value)


def test_an_absent_accelerator_is_an_error_never_a_silent_cpu():
  with pytest.raises(UserError, match=r"accelerator asked for \(tpu\) is not there; JAX sees: cpu"):
    mesh(platform="tpu")
