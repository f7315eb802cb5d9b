"""The FLOP count, against closed forms."""

import functools
import importlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import Mesh, PartitionSpec

from mtm.families.gpt2 import gpt2
from mtm.families.t5 import t5
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.span_corruption import SpanCorruption
from mtm.training import flops

X = jax.ShapeDtypeStruct((8, 16), jnp.float32)
W = jax.ShapeDtypeStruct((16, 16), jnp.float32)
ONE = 2 * 8 * 16 * 16  # of X @ W


@jax.custom_vjp
def by_hand(x, w):
  return x @ w


by_hand.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))


@jax.custom_jvp
def forward_by_hand(x, w):
  return x @ w


forward_by_hand.defjvp(lambda primals, tangents: (forward_by_hand(*primals), tangents[0]))


def scanned(x, w):
  return jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=5)[0]


PROGRAMS = {
  "product": (lambda x, w: x @ w, 1),
  "elementwise": (lambda x, w: jnp.tanh(x) + w[:8], 0),
  "jit": (jax.jit(lambda x, w: x @ w), 1),
  "scan": (scanned, 5),
  "nested scan": (
    lambda x, w: jax.lax.scan(lambda c, _: (scanned(c, w), None), x, None, length=3)[0],
    15,
  ),
  "fori_loop": (lambda x, w: jax.lax.fori_loop(0, 3, lambda _, c: c @ w, x), 3),
  "the dearer branch": (
    lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w),
    2,
  ),
  "remat": (jax.checkpoint(lambda x, w: x @ w), 1),
  "custom_vjp": (by_hand, 1),
  "custom_vjp's gradient": (jax.grad(lambda x, w: jnp.sum(by_hand(x, w)), (0, 1)), 3),
  "custom_jvp": (forward_by_hand, 1),
  "gradient": (jax.grad(lambda x, w: jnp.sum(jnp.square(x @ w)), (0, 1)), 3),
  "vmap": (lambda x, w: jax.vmap(lambda row: row @ w)(x), 1),
  "einsum": (lambda x, w: jnp.einsum("bij,jk->bik", x.reshape(2, 4, 16), w), 1),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_way_to_multiply_is_counted(name):
  fn, times = PROGRAMS[name]
  assert flops.tally(fn, X, W) == (times * ONE, 0)


def test_products_within_kernels_are_told_apart():
  def kernel(x, w, out):
    out[...] = jnp.dot(x[...], w[...])

  def fn(x, w):
    called = pl.pallas_call(kernel, jax.ShapeDtypeStruct((8, 16), jnp.float32), grid=(3,))
    return called(x, w) @ w

  assert flops.kernels(jax.make_jaxpr(fn)(X, W)) == 3 * ONE
  assert flops.count(fn, X, W) == 4 * ONE


def test_a_while_loop_counts_once_and_is_told():
  def fn(x, w):
    return jax.lax.while_loop(lambda c: jnp.sum(c) < 1, lambda c: c @ w, x)

  assert flops.tally(fn, X, W) == (ONE, 1)


def test_shard_map_counts_all_shards():
  mesh = Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("data", "tensor"))
  cut = jax.shard_map(
    lambda x, w: x @ w,
    mesh=mesh,
    in_specs=(PartitionSpec("data"), PartitionSpec(None, "tensor")),
    out_specs=PartitionSpec("data", "tensor"),
  )
  assert flops.count(cut, X, W) == ONE


def test_grouped_convolution_and_ragged_products():
  conv = functools.partial(
    jax.lax.conv_general_dilated, window_strides=(1,), padding="SAME", feature_group_count=4,
    dimension_numbers=("NWC", "WIO", "NWC"),
  )  # fmt: skip
  image, kernel = jnp.zeros((2, 10, 16)), jnp.zeros((3, 4, 32))
  assert flops.count(conv, image, kernel) == 2 * (2 * 10 * 32) * (3 * 4)
  experts, sizes = jnp.zeros((4, 16, 24)), jnp.asarray([2, 2, 2, 2])
  assert flops.count(jax.lax.ragged_dot, X, experts, sizes) == 2 * 8 * 16 * 24


@pytest.mark.parametrize(("window", "keys"), [(None, 8), ((2, 0), 3)])
def test_attention_in_cudnn_counts_as_its_two_products(monkeypatch, window, keys):
  """The traced call alone: where there is no GPU JAX's checks of the card are answered here."""
  fused = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
  monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91000)
  monkeypatch.setattr(fused, "check_compute_capability", lambda capability: True)
  x = jax.ShapeDtypeStruct((2, 8, 4, 16), jnp.bfloat16)
  attend = functools.partial(
    jax.nn.dot_product_attention, implementation="cudnn", is_causal=True, local_window_size=window
  )
  assert flops.count(attend, x, x, x) == 4 * (2 * 4 * 16) * 8 * keys


def batch_of(model, rows, length):
  names = [*model.inputs, "decoder_target_tokens", "decoder_loss_weights"]
  batch = {name: jax.ShapeDtypeStruct((rows, length), jnp.int32) for name in names}
  return batch, jax.eval_shape(model.init, jax.random.key(0), batch)


def test_a_gpt2_step_is_six_flops_a_weight_and_token_plus_attention():
  layers, embed, heads, vocab, rows, length = 3, 32, 4, 64, 2, 16
  model = gpt2(layers, embed, heads, vocab, max_length=length)
  batch, params = batch_of(model, rows, length)
  weights = layers * 12 * embed**2 + vocab * embed  # projections, feed-forward, the tied head
  tokens = rows * length
  attention = 12 * layers * length * embed * tokens  # scores and averages, forward and backward
  found = flops.training_step(model.apply, CausalLM(), params, batch)
  assert found == 6 * weights * tokens + attention


def test_scanned_unrolled_and_rematerialised_models_count_the_same():
  def counted(**how):
    model = t5(3, 16, 2, 8, 24, 32, **how)
    batch, params = batch_of(model, 2, 8)
    return flops.training_step(model.apply, SpanCorruption(), params, batch)

  everything = jax.checkpoint_policies.nothing_saveable
  assert counted() == counted(scan=False) == counted(remat=everything) > 0


@pytest.mark.parametrize(
  ("kind", "teraflops"),
  [
    ("TPU v2", 23),
    ("TPU v3", 61.5),
    ("TPU v4", 275),
    ("TPU v5 lite", 197),
    ("TPU v5p", 459),
    ("TPU v5", 459),
    ("TPU v6 lite", 918),
    ("TPU7x", 1153.5),
    ("Tesla V100-SXM2-16GB", 125),
    ("NVIDIA A100-SXM4-80GB", 312),
    ("NVIDIA H100 80GB HBM3", 989),
    ("NVIDIA H100 PCIe", 756),
    ("NVIDIA H200", 989),
    ("NVIDIA B200", 2250),
    ("NVIDIA GB200", 2500),
    ("NVIDIA L40S", 362),
  ],
)
def test_published_peaks_are_found_by_device_kind(kind, teraflops):
  assert flops.peak(SimpleNamespace(platform="any", device_kind=kind)) == teraflops * 1e12


def test_an_unknown_accelerator_has_no_peak():
  assert flops.peak(SimpleNamespace(platform="gpu", device_kind="NVIDIA Z9")) is None


def test_a_cpu_peak_is_measured_once_and_shared_by_its_devices():
  device = jax.devices("cpu")[0]
  whole = flops.peak(device) * jax.local_device_count("cpu")
  assert 1e8 < whole < 1e14  # a slow core to a large server
  assert flops.peak(device) == flops.peak(device)
