"""The device mesh: sizes that fit, and what is said when they do not."""

from __future__ import annotations

import types

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


class TestSlices:
  def test_the_outer_part_of_an_axis_lies_across_slices(self):
    both = mesh(data=4, tensor=2, dcn={"data": 2})
    ids = [[d.id for d in row] for row in both.devices.reshape(4, 2)]
    assert ids == [[0, 1], [2, 3], [4, 5], [6, 7]]  # the first slice is 0 to 3
    one = mesh(fsdp=4, data=1, tensor=2, dcn={"tensor": 2})
    assert [[d.id for d in row] for row in one.devices.reshape(4, 2)] == [
      [0, 4], [1, 5], [2, 6], [3, 7],
    ]  # fmt: skip

  def test_an_open_size_holds_the_slices_too(self):
    assert mesh(fsdp=4, dcn={"data": 2}).shape["data"] == 2

  def test_slices_that_do_not_divide_their_axis_are_refused(self):
    with pytest.raises(UserError, match="dcn: 3 slices do not divide data = 8; .*1, 2, 4, 8"):
      mesh(dcn={"data": 3})

  def test_an_unknown_axis_is_refused_with_the_nearest(self):
    with pytest.raises(UserError, match="dcn: unknown axis 'dat'; did you mean 'data'"):
      mesh(dcn={"dat": 2})

  def test_real_slices_must_be_told_of(self):
    """Accelerators know their slices: a mesh that forgets them would send everything across."""
    chips = [types.SimpleNamespace(platform="tpu", slice_index=i // 4, id=i) for i in range(8)]
    with pytest.raises(UserError, match=r"in 2 slices and dcn = \{\} is for 1: say .*'data': 2"):
      mesh(devices=chips)
    with pytest.raises(UserError, match=r"in 1 slices and .* for 2: leave dcn out"):
      mesh(devices=chips[:4], dcn={"data": 2})


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
