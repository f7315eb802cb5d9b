"""Every attention kernel equals plain softmax, written here in numpy, for every pattern."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.discovery import modules
from mtm.errors import UserError
from mtm.parts.kernels import Kernel, Request, _choose, attend, splash
from mtm.parts.kernels.reference import Reference
from mtm.parts.patterns import Pattern
from mtm.parts.patterns._algebra import visible
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.prefix import Prefix
from tests.contracts.discovered import examples

KERNELS = examples("mtm.parts.kernels")
# Of each engine the example that has most to do for so few tokens.
HARDEST = [
  pytest.param(
    module.EXAMPLES[-1],
    id=type(module.EXAMPLES[-1]).__name__,
    marks=[pytest.mark.slow] if module is splash else [],  # interpreted where there is no TPU
  )
  for module in modules("mtm.parts.kernels")
]
B, L, S, H, G, K = 2, 8, 8, 4, 2, 8


@dataclasses.dataclass(frozen=True)
class Truth:
  """Softmax attention and its gradient in float64, one loop a head."""

  q: np.ndarray
  k: np.ndarray
  v: np.ndarray
  seen: np.ndarray  # [B, H, L, S]
  bias: np.ndarray  # [B, H, L, S]
  scale: float

  def _probabilities(self, b: int, h: int) -> np.ndarray:
    g = h // (self.q.shape[2] // self.k.shape[2])
    s = self.scale * self.q[b, :, h] @ self.k[b, :, g].T + self.bias[b, h]
    s = np.where(self.seen[b, h], s, -np.inf)
    top = np.max(s, axis=-1, keepdims=True)
    e = np.where(self.seen[b, h], np.exp(s - np.where(np.isfinite(top), top, 0)), 0)
    return e / np.maximum(e.sum(-1, keepdims=True), 1e-300)

  def out(self) -> np.ndarray:
    out = np.zeros(self.q.shape[:3] + (self.v.shape[-1],))
    for b, h in np.ndindex(self.q.shape[0], self.q.shape[2]):
      g = h // (self.q.shape[2] // self.k.shape[2])
      out[b, :, h] = self._probabilities(b, h) @ self.v[b, :, g]
    return out

  def gradients(self, d_out: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of sum(out · d_out) by q, k, v, bias."""
    d_q, d_k, d_v, d_bias = (np.zeros(x.shape) for x in (self.q, self.k, self.v, self.bias))
    for b, h in np.ndindex(self.q.shape[0], self.q.shape[2]):
      g = h // (self.q.shape[2] // self.k.shape[2])
      p, d = self._probabilities(b, h), d_out[b, :, h]
      d_v[b, :, g] += p.T @ d
      d_p = d @ self.v[b, :, g].T
      d_s = p * (d_p - np.sum(d_p * p, axis=-1, keepdims=True))
      d_bias[b, h] = d_s
      d_q[b, :, h] += self.scale * d_s @ self.k[b, :, g]
      d_k[b, :, g] += self.scale * d_s.T @ self.q[b, :, h]
    return d_q, d_k, d_v, d_bias


def arrays(kv_heads: int = G, keys: int = S) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  shapes = {"q": (B, L, H, K), "k": (B, keys, kv_heads, K), "v": (B, keys, kv_heads, K)}
  made = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
  made["bias"] = rng.normal(size=(B, H, L, keys)).astype(np.float32)
  made["d_out"] = rng.normal(size=(B, L, H, K)).astype(np.float32)
  return made


def packed(length: int) -> np.ndarray:
  """Three documents and padding; the second example has no padding."""
  return np.stack([np.arange(length) // 3 + 1, np.ones(length, int)]) * (
    np.arange(length)[None] < np.array([[length - 2], [length]])
  )


def compare(kernel: Kernel, pattern: Pattern, x: dict[str, np.ndarray], **extra: Any) -> None:
  """Value and gradients equal the truth, or the kernel refuses with a reason."""
  places = extra.get("positions") or (jnp.arange(L), jnp.arange(x["k"].shape[1]))
  labels = dict(extra.get("labels") or {})
  heads = pattern.by_head or (pattern,) * H
  shape = (B, L, x["k"].shape[1])
  seen = np.stack([np.broadcast_to(visible(p, *places, labels), shape) for p in heads], axis=1)
  if "segment_ids" in extra:
    of_q, of_k = (np.asarray(s) for s in extra["segment_ids"])
    seen = seen & ((of_q[:, :, None] == of_k[:, None, :]) & (of_k[:, None, :] > 0))[:, None]
  bias = x["bias"] if "bias" in extra else np.zeros_like(x["bias"])
  scale = extra.get("scale") or K**-0.5
  truth = Truth(*(np.float64(x[n]) for n in "qkv"), seen, np.float64(bias), scale)

  @jax.jit
  def run(q: Any, k: Any, v: Any, bias: Any, d_out: Any) -> Any:
    def f(q: Any, k: Any, v: Any, bias: Any) -> jax.Array:
      own = {**extra, "bias": bias} if "bias" in extra else extra
      return attend(q, k, v, pattern, kernel=kernel, **own)

    out, pull = jax.vjp(f, q, k, v, bias)
    return out, pull(d_out)

  try:
    out, grads = run(*(x[n] for n in ("q", "k", "v", "bias", "d_out")))
  except UserError as refusal:
    assert type(kernel).__name__ in str(refusal)
    pytest.skip(f"refused: {refusal}")
  # float32, sums of 8 products of order 1.
  np.testing.assert_allclose(out, truth.out(), atol=3e-6, rtol=1e-5)
  wanted = truth.gradients(np.float64(x["d_out"]))
  for got, want in list(zip(grads, wanted, strict=True))[: 4 if "bias" in extra else 3]:
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pattern", examples("mtm.parts.patterns", quick=1))
@pytest.mark.parametrize("kernel", HARDEST)
def test_kernel_is_plain_softmax_for_every_pattern(kernel: Kernel, pattern: Pattern) -> None:
  rng = np.random.default_rng(1)
  of = {
    "segment": (jnp.asarray(packed(L)),) * 2,
    "prefix": (jnp.asarray(rng.integers(0, 2, (B, L))),) * 2,
  }
  compare(kernel, pattern, arrays(), labels=of)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_query_heads_share_key_heads(kernel: Kernel, kv_heads: int) -> None:
  compare(kernel, Causal(), arrays(kv_heads))


@pytest.mark.parametrize("kernel", KERNELS)
def test_bias_scale_and_segments_are_honoured(kernel: Kernel) -> None:
  x = arrays()
  compare(kernel, Causal(), x, bias=x["bias"], scale=1.0, segment_ids=(jnp.asarray(packed(L)),) * 2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_other_lengths_of_queries_and_keys(kernel: Kernel) -> None:
  x = arrays(keys=13)
  compare(kernel, Full(), x, bias=x["bias"])
  segments = jnp.asarray(packed(L)), jnp.asarray(packed(13))
  compare(kernel, Full(), arrays(keys=13), segment_ids=segments)


@pytest.mark.parametrize("kernel", KERNELS)
def test_places_of_decoding_are_honoured(kernel: Kernel) -> None:
  places = jnp.stack([jnp.arange(L), jnp.arange(L) + 4]), jnp.arange(13)
  prefix = jnp.zeros((B, L), int).at[:, :3].set(1), jnp.zeros((B, 13), int).at[:, :5].set(1)
  compare(kernel, Causal() | Prefix(), arrays(keys=13), positions=places, labels={"prefix": prefix})


@pytest.mark.parametrize("kernel", KERNELS)
def test_dropout_keeps_the_expected_output_or_is_refused(kernel: Kernel) -> None:
  x = arrays()

  @jax.jit
  @jax.vmap
  def run(key: jax.Array) -> jax.Array:
    return attend(x["q"], x["k"], x["v"], Causal(), kernel=kernel, dropout=(key, 0.25))

  try:
    draws = run(jax.random.split(jax.random.key(0), 512))
  except UserError as refusal:
    pytest.skip(f"refused: {refusal}")
  plain = attend(x["q"], x["k"], x["v"], Causal(), kernel=kernel)
  assert np.std(draws, axis=0).max() > 0.1, "nothing was dropped"
  # Five standard errors of the mean of 512 draws.
  error = np.abs(np.mean(draws, axis=0) - plain)
  assert (error <= 5 * np.std(draws, axis=0) / 512**0.5 + 1e-6).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_query_that_sees_nothing_gets_zero(kernel: Kernel) -> None:
  x = arrays()
  nothing = jnp.zeros((B, L), int)
  try:
    out = attend(x["q"], x["k"], x["v"], Full(), kernel=kernel, segment_ids=(nothing, nothing))
  except UserError as refusal:
    pytest.skip(f"refused: {refusal}")
  np.testing.assert_array_equal(out, np.zeros((B, L, H, K), np.float32))


@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16_comes_out_as_bfloat16_near_the_truth(kernel: Kernel) -> None:
  x = {n: jnp.asarray(a, jnp.bfloat16) for n, a in arrays().items()}
  try:
    out = attend(x["q"], x["k"], x["v"], Causal(), kernel=kernel)
  except UserError as refusal:
    pytest.skip(f"refused: {refusal}")
  assert out.dtype == jnp.bfloat16
  seen = np.broadcast_to(np.tril(np.ones((L, S), bool)), (B, H, L, S))
  as64 = [np.asarray(x[n], np.float64) for n in "qkv"]
  truth = Truth(*as64, seen, np.zeros((B, H, L, S)), K**-0.5)
  # bfloat16 keeps 8 bits: probabilities and outputs are each rounded by up to 2⁻⁸.
  np.testing.assert_allclose(np.asarray(out, np.float64), truth.out(), atol=0.03)


@dataclasses.dataclass(frozen=True)
class Picky:
  """A kernel that can only do one head, cheaply, and answers 7."""

  def supports(self, request: Request) -> str | None:
    return "only one head" if request.q.shape[2] > 1 else None

  def cost(self, request: Request) -> float:
    return 0.0

  def __call__(self, request: Request) -> jax.Array:
    return jnp.full_like(request.q, 7.0)


def test_a_kernel_that_cannot_honour_a_call_says_why() -> None:
  x = arrays()
  with pytest.raises(UserError, match="Picky cannot run this: only one head"):
    attend(x["q"], x["k"], x["v"], Full(), kernel=Picky())


def test_the_cheapest_that_supports_the_call_is_taken(monkeypatch: Any) -> None:
  of = lambda *kernels: types.SimpleNamespace(EXAMPLES=list(kernels), __name__=str(kernels[0]))  # noqa: E731
  found = [of(Reference()), of(Picky())]
  monkeypatch.setattr(_choose, "modules", lambda package: found)
  x = arrays()
  one = attend(x["q"][:, :, :1], x["k"][:, :, :1], x["v"][:, :, :1], Full())
  assert (one == 7).all()
  assert not (attend(x["q"], x["k"], x["v"], Full()) == 7).any()


def test_a_kernel_goes_by_the_name_of_its_module() -> None:
  x = arrays()
  arguments = x["q"], x["k"], x["v"], Causal()
  by_name = attend(*arguments, kernel="reference")
  np.testing.assert_array_equal(by_name, attend(*arguments, kernel=Reference()))
  with pytest.raises(UserError, match="no attention kernel 'flash'; there are auto, blocks"):
    attend(*arguments, kernel="flash")


def test_heads_that_no_key_head_divides_are_refused() -> None:
  x = arrays(kv_heads=3)
  with pytest.raises(UserError, match="4 query heads are no multiple of 3 key heads"):
    attend(x["q"], x["k"], x["v"], Full())
