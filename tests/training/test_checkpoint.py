"""Checkpoints: bit-identical, on any mesh, atomic; damage and full disks are told plainly."""

from __future__ import annotations

import dataclasses
import gc
import resource
import shutil
import signal
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtm.errors import UserError
from mtm.training import checkpoint
from mtm.training.checkpoint import Checkpoints
from mtm.training.precision import LossScale, NoScale
from mtm.training.state import create
from tests.training import tiny

# Where a read or write fails, orbax's threads end later, on an event loop that is closed by then.
pytestmark = [
  pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
RECORD = {"data": {"position": 7, "seen": [1, 2]}, "config": "LAYERS = 2\n", "tokens": 123.5}
OPTIMIZER = optax.chain(
  optax.clip_by_global_norm(1.0),
  optax.masked(optax.add_decayed_weights(0.1), {"a": {"w": True}, "b": False}),
  optax.adam(1e-3),
)
NAMES = {"a": {"w": ("embed", "mlp")}, "b": ("mlp",)}


def small(step=1, optimizer=OPTIMIZER, scale=NoScale(), width=16):  # noqa: B008 (frozen)
  """A state that no initialiser would give, on one device."""
  draw = np.random.default_rng(step)
  params = {
    "a": {"w": jnp.asarray(draw.normal(size=(8, width)), jnp.float32)},
    "b": jnp.asarray(draw.normal(size=(width,)), jnp.float32),
  }
  state = create(params, optimizer, seed=step, extra={"loss_scale": scale})
  grads = jax.tree.map(lambda x: x * 0.5, params)
  _, opt_state = optimizer.update(grads, state.opt_state, params)
  return dataclasses.replace(state, step=jnp.int32(step), opt_state=opt_state)


def on(state, plan):
  """The state's shapes, laid out by a plan."""
  params = plan.of_params(NAMES, state.params)
  where = jax.tree.map(lambda _: plan.replicated, state)
  opt_state = plan.of_state(state.opt_state, state.params, params)
  where = dataclasses.replace(where, params=params, opt_state=opt_state)
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, where)


def here(state):
  return on(state, tiny.one_device())


def equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def saved(model_dir, *steps, keep=3, **fields):
  checkpoints = Checkpoints(model_dir, keep)
  for step in steps:
    checkpoints.save(small(step, **fields), {**RECORD, "step": step})
  checkpoints.wait()
  return checkpoints


@pytest.fixture(autouse=True)
def no_remains() -> Iterator[None]:
  """What such threads leave is collected here, not in another module's test."""
  yield
  gc.collect()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """Steps 1 and 2 of a run; tests that damage it take a copy."""
  model_dir = tmp_path_factory.mktemp("run")
  saved(model_dir, 1, 2).close()
  return model_dir


@pytest.fixture
def copy(written, tmp_path):
  return shutil.copytree(written, tmp_path / "copy")


class TestRoundTrip:
  @pytest.mark.parametrize("scale", [NoScale(), LossScale(2.0**9, 5)])
  def test_state_and_record_come_back_bit_for_bit(self, tmp_path, scale):
    state = small(3, scale=scale)
    checkpoints = saved(tmp_path, 3, scale=scale)
    assert checkpoints.latest() == 3
    got, record = checkpoints.restore(3, here(state))
    equal(got, state)
    assert record == {**RECORD, "step": 3}
    checkpoints.close()

  def test_what_is_saved_is_the_state_at_the_call_although_it_is_donated_after(self, tmp_path):
    state = small(1)
    expected = jax.device_get(state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, {})
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
    jax.block_until_ready(overwrite(state))
    checkpoints.wait()
    got, _ = checkpoints.restore(1, here(small(1)))
    equal(jax.device_get(got), expected)
    checkpoints.close()

  def test_another_mesh_gets_the_same_bits_in_its_own_layout(self, written):
    state = small(2)
    abstract = on(state, tiny.on({"data": 1, "fsdp": 4, "tensor": 2}))
    got, _ = checkpoint.restore(written, abstract)
    equal(jax.device_get(got), jax.device_get(state))
    for x, wanted in zip(jax.tree.leaves(got), jax.tree.leaves(abstract), strict=True):
      assert x.sharding.is_equivalent_to(wanted.sharding, x.ndim)
    assert {s.data.shape for s in got.params["a"]["w"].addressable_shards} == {(2, 8)}

  def test_a_sharded_state_is_read_by_one_device(self, tmp_path):
    plan = tiny.on({"data": 1, "fsdp": 4, "tensor": 2})
    where = jax.tree.map(lambda s: s.sharding, on(small(1), plan))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(jax.device_put(small(1), where), RECORD)
    checkpoints.close()
    got, _ = checkpoint.restore(tmp_path, here(small(1)))
    equal(jax.device_get(got), jax.device_get(small(1)))

  def test_only_the_newest_are_kept(self, tmp_path):
    saved(tmp_path, 1, 2, 3, keep=2).close()
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == ["2", "3"]

  def test_a_reopened_run_goes_on_after_its_newest_step(self, copy):
    checkpoints = Checkpoints(copy)
    assert checkpoints.latest() == 2
    checkpoints.save(small(5), RECORD)
    checkpoints.close()
    assert checkpoint.find(copy).name == "5"

  def test_a_fresh_directory_has_no_latest_step(self, tmp_path):
    checkpoints = Checkpoints(tmp_path / "new")
    assert checkpoints.latest() is None
    checkpoints.close()


class TestReading:
  def test_a_run_its_checkpoints_and_a_step_are_all_found(self, written):
    newest = written / "checkpoints" / "2"
    for path in (written, newest.parent, newest, str(written)):
      assert checkpoint.find(path) == newest
    assert checkpoint.find(newest.parent / "1").name == "1"

  def test_shapes_are_known_without_reading_arrays(self, written):
    got = checkpoint.shapes(written)
    assert got["a"]["w"].shape == (8, 16) and got["a"]["w"].dtype == np.float32
    assert got["b"].shape == (16,)

  def test_parameters_alone_are_read_on_any_mesh(self, written):
    plan = tiny.on({"data": 1, "fsdp": 8})
    got = checkpoint.restore_params(written, on(small(2), plan).params)
    equal(jax.device_get(got), jax.device_get(small(2).params))
    assert not got["a"]["w"].sharding.is_fully_replicated

  def test_parameters_without_a_layout_go_to_one_device(self, written):
    got = checkpoint.restore_params(written, checkpoint.shapes(written))
    equal(got, small(2).params)

  def test_the_record_is_plain_json(self, written):
    assert checkpoint.record(written / "checkpoints" / "1") == {**RECORD, "step": 1}


def one_sentence(error):
  text = str(error.value)
  assert "\n" not in text and len(text) < 700
  return text


class TestForeign:
  def test_a_path_that_is_not_there_names_its_neighbours(self, written):
    with pytest.raises(UserError, match="does not exist; did you mean 'checkpoints'") as error:
      checkpoint.find(written / "checkpoint")
    one_sentence(error)

  @pytest.mark.parametrize("content", [[], ["model.ckpt.index"]])
  def test_a_directory_without_checkpoints_says_what_is_wanted(self, tmp_path, content):
    for name in content:
      (tmp_path / name).touch()
    with pytest.raises(UserError, match="holds no mtm checkpoint: give a MODEL_DIR"):
      checkpoint.restore(tmp_path, here(small(1)))

  def test_a_checkpoints_directory_of_somebody_else_is_not_written_into(self, tmp_path):
    (tmp_path / "checkpoints" / "checkpoint-500").mkdir(parents=True)
    with pytest.raises(UserError, match="holds 'checkpoint-500'.*choose another MODEL_DIR"):
      Checkpoints(tmp_path)

  def test_a_file_where_the_directory_should_be_is_an_error(self, tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match="cannot use .*run/checkpoints") as error:
      Checkpoints(tmp_path / "run")
    one_sentence(error)

  def test_parameters_of_another_size_name_the_parameter_and_both_sizes(self, written):
    with pytest.raises(
      UserError, match=r"another model: a/w is \[8, 16\] there and \[8, 24\] here"
    ):
      checkpoint.restore(written, here(small(2, width=24)))

  def test_parameters_of_another_model_name_what_differs(self, written):
    other = {"a": {"v": jax.ShapeDtypeStruct((8, 16), np.float32)}, "b": small(2).params["b"]}
    with pytest.raises(UserError, match="has a/w that this model lacks, and lacks a/v.*config.gin"):
      checkpoint.restore_params(written, other)

  def test_another_optimizer_is_named_as_such(self, written):
    params = small(2).params
    state = create(params, optax.sgd(1.0), 0, {"loss_scale": NoScale()})
    with pytest.raises(UserError, match="state of another optimizer") as error:
      checkpoint.restore(written, here(state))
    one_sentence(error)


def remove(name):
  return lambda step: shutil.rmtree(step / name)


def halve(*names):
  def damage(step):
    for path in (p for name in names for p in (step / name).rglob("*") if p.is_file()):
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

  return damage


def empty(step):
  shutil.rmtree(step)
  step.mkdir()


DAMAGE = {
  "no parameters": remove("params"),
  "no optimizer": remove("training"),
  "no record": remove("record"),
  "an empty step": empty,
  "halved parameters": halve("params/d", "params/ocdbt.process_0/d"),
  "halved metadata": lambda step: (step / "params" / "_METADATA").write_text('{"tree'),
  "a halved record": lambda step: (step / "record" / "metadata").write_text('{"data'),
}


class TestDamage:
  @pytest.mark.parametrize("damage", DAMAGE)
  def test_it_is_told_in_one_sentence_and_the_step_before_still_loads(self, copy, damage):
    step = copy / "checkpoints" / "2"
    DAMAGE[damage](step)
    with pytest.raises(UserError, match="checkpoints/2.*remove that step") as error:
      checkpoint.restore(step, here(small(2)))
    one_sentence(error)
    shutil.rmtree(step)
    equal(checkpoint.restore(copy, here(small(1)))[0], small(1))

  def test_parameters_load_although_the_optimizer_is_damaged(self, copy):
    halve("training")(copy / "checkpoints" / "2")
    equal(checkpoint.restore_params(copy, here(small(2)).params), small(2).params)

  def test_a_damaged_record_is_told(self, copy):
    DAMAGE["a halved record"](copy / "checkpoints" / "2")
    with pytest.raises(UserError, match="damaged"):
      checkpoint.record(copy)

  def test_a_half_written_step_is_no_checkpoint_and_is_cleared_away(self, copy):
    """What SIGKILL leaves: orbax renames a step only when it is whole."""
    half = copy / "checkpoints" / "3.orbax-checkpoint-tmp"
    shutil.copytree(copy / "checkpoints" / "2" / "params", half / "params")
    assert checkpoint.find(copy).name == "2"
    checkpoints = Checkpoints(copy)
    assert checkpoints.latest() == 2
    checkpoints.save(small(4), RECORD)
    checkpoints.close()
    assert not half.exists()
    equal(checkpoint.restore(copy, here(small(4)))[0], small(4))


@pytest.fixture
def full_disk():
  """The kernel refuses to let any file grow beyond a kilobyte, as a full disk would."""
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limit[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, limit)
  signal.signal(signal.SIGXFSZ, handler)


class TestFullDisk:
  def test_it_is_told_and_the_checkpoint_before_is_intact(self, copy, full_disk):
    checkpoints = Checkpoints(copy)
    with pytest.raises(UserError, match="checkpoints is full: free some space"):
      checkpoints.save(small(3, width=1024), RECORD)
      checkpoints.wait()
    equal(checkpoint.restore(copy, here(small(2)))[0], small(2))
    assert checkpoint.find(copy).name == "2"

  def test_a_record_that_json_cannot_hold_is_the_callers_mistake(self, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match="JSON"):
      checkpoints.save(small(1), {"data": object()})
      checkpoints.wait()
