"""Small parameter trees, with the names and layout of mtm's models, for tests of optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

LAYERS = 3

# Of one layer: axis names and sizes. Then what stands outside of the stack.
LAYER = {
  "mixer": {
    "query": {"kernel": dict(embed=8, heads=2, head_dim=6), "bias": dict(heads=2, head_dim=6)},
    "out": {"kernel": dict(heads=2, head_dim=6, embed=8)},
  },
  "channel": {"wi": {"kernel": dict(embed=8, mlp=10)}},
  "channel_norm": {"scale": dict(embed=8)},
}
OUTSIDE = {
  "tokens": {"embedding": dict(vocab=16, embed=8)},
  "position": {"rel_embedding": dict(heads=2, relpos_buckets=4)},
  "final_norm": {"scale": dict(embed=8)},
  "head": {"logits_dense": {"kernel": dict(embed=8, vocab=16)}},
}


def _is_leaf(node):
  return all(isinstance(v, int) for v in node.values())


def names():
  """The axis names of `stacked`, a tree of tuples."""
  inner = jax.tree.map(lambda d: ("layers", *d), LAYER, is_leaf=_is_leaf)
  outer = jax.tree.map(lambda d: tuple(d), OUTSIDE, is_leaf=_is_leaf)
  return {**outer, "decoder": {"stack": {"period_0": inner}}}


def stacked(seed):
  """Random float32 arrays; those of the layers differ in size from layer to layer."""
  rng = np.random.default_rng(seed)
  scale = np.asarray([0.3, 1.0, 4.0], np.float32)

  def one(sizes, leading=()):
    x = rng.normal(size=(*leading, *sizes.values())).astype(np.float32)
    if leading:
      x *= scale.reshape(-1, *[1] * len(sizes))
    return jnp.asarray(x)

  outer = jax.tree.map(one, OUTSIDE, is_leaf=_is_leaf)
  inner = jax.tree.map(lambda sizes: one(sizes, (LAYERS,)), LAYER, is_leaf=_is_leaf)
  return {**outer, "decoder": {"stack": {"period_0": inner}}}


def apart(tree):
  """The same with every layer as a tree of its own."""
  layers = tree["decoder"]["stack"]["period_0"]
  every = {f"layer_{i}": jax.tree.map(lambda x, i=i: x[i], layers) for i in range(LAYERS)}
  return {**tree, "decoder": every}


def flat(seed, *shapes):
  """Plain matrices and vectors, as any library has them: `w0/kernel`, ..., `norm/scale`."""
  rng = np.random.default_rng(seed)
  tree = {f"w{i}": {"kernel": rng.normal(size=shape)} for i, shape in enumerate(shapes)}
  tree["norm"] = {"scale": rng.normal(size=shapes[0][-1])}
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


DECAYED = {"w0": {"kernel": True}, "w1": {"kernel": True}, "norm": {"scale": False}}


def walk(optimizer, params, gradients):
  """The parameters after a step along each of the gradients.

  Not jitted: small operations compile once for all optimizers.
  """
  state = optimizer.init(params)
  for gradient in gradients:
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  return params


def jitted(optimizer):
  """The same with a compiled update: for many steps on few parameters."""
  return optax.GradientTransformation(optimizer.init, jax.jit(optimizer.update))


def assert_same_walk(ours, theirs, rtol=1e-5, shapes=((6, 10), (12, 5))):
  """Four steps of both end at the same place; the tolerance is of float32 in another order."""
  gradients = [flat(seed, *shapes) for seed in range(1, 5)]
  found, wanted = (
    walk(jitted(optimizer), flat(0, *shapes), gradients) for optimizer in (ours, theirs)
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), found, wanted)
