"""A service names its own model, and its draws follow the seed."""

from __future__ import annotations

import pytest

from mtm.errors import UserError
from mtm.serving.asked import Asked, Refused
from tests.serving.fakes import COLUMNS, Parrot, service


def test_jobs_say_what_was_asked() -> None:
  made = service(Parrot())
  try:
    asked = Asked(prompts=["a", "bc"], n=2, seed=7, stop=("x",), temperature=0.5)
    jobs = made.jobs(asked, made.prompts(asked), lambda *piece: None)
    prompts = [job.prompt for job in jobs]
    assert [(p.number, p.sample) for p in prompts] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert {(p.seed, p.temperature) for p in prompts} == {(7, 0.5)}
    assert [p.limit for p in prompts] == [COLUMNS - 1] * 2 + [COLUMNS - 2] * 2
    assert jobs[0].stops == ("x",) and jobs[0].top == 0
    (talk,) = made.jobs(Asked(messages=[{"role": "user", "content": "x"}]), [[5]], print)
    assert talk.stops == ("\nUser:",)
    with pytest.raises(Refused, match="'other' is not served here"):
      made.prompts(Asked(model="other", prompts=["x"]))
  finally:
    made.scheduler.close()


def test_without_a_seed_draws_differ() -> None:
  made = service(Parrot())
  asked = Asked(prompts=["a"])
  seeds = {made.jobs(asked, [[5]], print)[0].prompt.seed for _ in range(3)}
  assert len(seeds) == 3
  made.warm()
  made.engine.error = "no memory"  # type: ignore[attr-defined]
  with pytest.raises(UserError, match="the model cannot generate: RuntimeError: no memory"):
    made.warm()
  made.scheduler.close()
