"""What a state is kept in changes its bytes and its place; an update in float32 stays one."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.training import memory
from mtm.training.checkpoint import Checkpoints
from mtm.training.memory import Memory
from mtm.training.optimizers.adamw import adamw
from tests.training import tiny

HALF = Memory(parameters="bfloat16", slots="bfloat16")


def trainer(how, plan=None):
  return tiny.trainer("llama", plan, optimizer=adamw(0.01), memory=how, dropout=0.0)


@functools.cache
def three_steps(how):
  """The state after three steps on eight devices, and the losses."""
  run = trainer(how, tiny.on({"data": 2, "fsdp": 4}))
  state, losses = run.create(), []
  for seed in range(3):
    state, sums = run.train_step(state, run.plan.put_batch(tiny.batch("llama", seed=seed)))
    losses.append(float(sums.means()["loss"]))
  return run, state, losses


def arrays(tree):
  return [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim]


def test_rounding_at_random_is_to_a_neighbour_and_right_on_average():
  x = jnp.full((4096,), 1 + 0.3 / 128, jnp.float32)  # bfloat16 has 1 and 1 + 1 / 128 around it
  got = np.asarray(memory.randomly(x, jax.random.key(0)), np.float64)
  assert set(np.unique(got)) == {1.0, 1 + 1 / 128}
  odds = np.mean(got > 1)
  assert abs(odds - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4096)  # four standard deviations


def test_rounding_leaves_what_bfloat16_has_and_what_is_no_number():
  x = jnp.asarray([1.5, -0.25, 0.0, jnp.inf, -jnp.inf, jnp.nan], jnp.float32)
  got = memory.randomly(x, jax.random.key(0))
  np.testing.assert_array_equal(np.asarray(got, np.float32), np.asarray(x))


def test_updates_too_small_for_bfloat16_add_up():
  """A thousand updates of 1/2048, each a sixteenth of what rounding to the nearest would see."""
  state, like = jnp.ones((512,), jnp.bfloat16), jnp.ones((512,), jnp.bfloat16)

  def step(x, key):
    (new,) = HALF.rounded((x.astype(jnp.float32) + 1 / 2048,), (like,), key)
    return new, None

  keys = jax.random.split(jax.random.key(0), 1000)
  end, _ = jax.jit(lambda x: jax.lax.scan(step, x, keys))(state)
  assert abs(float(jnp.mean(end.astype(jnp.float32))) - (1 + 1000 / 2048)) < 0.01
  assert jnp.bfloat16(1) + jnp.bfloat16(1 / 2048) == 1


def test_a_state_in_bfloat16_takes_half_and_learns_the_same_within_its_precision():
  _, full, wanted = three_steps(Memory())
  _, half, losses = three_steps(HALF)
  size = lambda state: sum(x.nbytes for x in arrays((state.params, state.opt_state)))  # noqa: E731
  assert size(half) == size(full) / 2
  assert {x.dtype for x in arrays((half.params, half.opt_state))} == {jnp.dtype("bfloat16")}
  np.testing.assert_allclose(losses, wanted, rtol=1 / 128)  # a weight's last bit is 1/256 of it


def test_an_offloaded_optimizer_rests_with_the_host_and_changes_no_bit():
  _, here, wanted = three_steps(Memory())
  run, there, losses = three_steps(Memory(offload=True))
  assert losses == wanted
  jax.tree.map(np.testing.assert_array_equal, here.params, there.params)
  assert {x.sharding.memory_kind for x in arrays(there.opt_state)} == {memory.HOST}
  assert memory.HOST not in {x.sharding.memory_kind for x in jax.tree.leaves(there.params)}
  for one, other in zip(arrays(here.opt_state), arrays(there.opt_state), strict=True):
    assert one.sharding.spec == other.sharding.spec  # still cut over the mesh
  assert jax.tree.leaves(run.create().opt_state)[1].sharding.memory_kind == memory.HOST


@pytest.mark.parametrize("how", [HALF, Memory(offload=True)], ids=["half", "offload"])
def test_a_checkpoint_restores_every_bit_to_its_place(how, tmp_path):
  run, state, _ = three_steps(how)
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(state, {})
  checkpoints.close()
  restored, _ = Checkpoints(tmp_path).restore(3, run.abstract)
  for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
    np.testing.assert_array_equal(np.asarray(old), np.asarray(new))
    assert old.dtype == new.dtype and old.sharding == new.sharding


@pytest.mark.parametrize("field", ["parameters", "slots"])
def test_a_dtype_that_is_not_kept_is_refused(field):
  with pytest.raises(UserError, match=f"{field} = 'bfloat61'.*'bfloat16'"):
    Memory(**{field: "bfloat61"})
