"""One host of a run on two: `host.py COORDINATOR INDEX`; host 0 prints the losses as JSON."""

from __future__ import annotations

import json
import sys

import jax
import optax


def losses() -> list[float]:
  """Three steps of data-parallel training, each host feeding its own rows of the batch."""
  from tests.training import tiny

  trainer = tiny.trainer(plan=tiny.on({"data": -1}), optimizer=optax.adam(1e-2))
  state, index, count = trainer.create(), jax.process_index(), jax.process_count()
  found = []
  for seed in range(3):
    whole = tiny.batch("gpt2", seed=seed)
    share = tiny.ROWS // count
    own = {name: x[index * share : (index + 1) * share] for name, x in whole.items()}
    state, sums = trainer.train_step(state, trainer.plan.put_batch(own))
    sums = jax.device_get(sums)
    found.append(float(sums.loss) / float(sums.weight))
  return found


if __name__ == "__main__":
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
  assert jax.device_count() == 8 and jax.local_device_count() == 4
  told = losses()
  if jax.process_index() == 0:
    print(json.dumps(told), flush=True)
