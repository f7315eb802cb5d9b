"""Does instruction tuning on more clusters of tasks help with a cluster that was held out?

PAPER: Finetuned Language Models Are Zero-Shot Learners (FLAN), 2109.01652, section 4.1, figure 6.
SENTENCE: tuning on instructions improves zero-shot answers to a cluster of tasks that was held out,
  the more clusters the better.
COMMAND: `python -m benchmarks.claims.task_clusters --output
  benchmarks/results/claims_task_clusters.json`
BUDGET: about 15 minutes of two cores; `--steps`, `--tuning` and `--seeds` make it more.

FLAN's model knows much before it is tuned. Its stand-in is a small model that reads notes in three
wordings, such as `first half of dabf>DAbf`, on twelve ways to write a word in six clusters, with
gin/runs/claims/task_clusters.gin. It is tuned with the same file on questions, `Task: first half of
dabf|DAbf`, of the first n of five clusters, for the same number of steps; every other example is a
note still, for without them so small a model forgets the sixth cluster. Of that one it has read
notes alone, and is asked questions in the end, and so is the untuned model.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from benchmarks.claims import _prompted

RUN = "runs/claims/task_clusters.gin"
CLUSTERS = ("word_plain", "word_ends", "word_halves", "word_sides", "word_gaps")
HELD_OUT = "word_turns"
TOLD, ASKED = "note", "p9"
UNTUNED = "0"
TUNING_RATE = 0.0005


def base(seed: int, home: pathlib.Path, steps: int) -> _prompted.Row:
  """The model that has read notes."""
  return _prompted.train(RUN, home, RANDOM_SEED=seed, TRAIN_STEPS=steps, EVAL_PERIOD=steps)


def tuned(
  number: int, seed: int, home: pathlib.Path, steps: int, before: pathlib.Path
) -> _prompted.Row:
  """The model tuned on questions of the first `number` clusters."""
  return _prompted.train(
    RUN, home, RANDOM_SEED=seed, TRAIN_STEPS=steps, EVAL_PERIOD=steps, SETS=CLUSTERS[:number],
    PEAK=TUNING_RATE, INITIAL_CHECKPOINT_PATH=str(before),
  )  # fmt: skip


def accuracies(runs: Sequence[_prompted.Row]) -> dict[str, dict[str, list[float]]]:
  """ "questions" and "notes" of the held-out cluster → number of clusters → every seed."""
  arms = list(dict.fromkeys(run["arm"] for run in runs))
  wordings = {"questions": ASKED, "notes": TOLD}
  return {
    name: {
      arm: [_prompted.mean(run["cells"], template=t) for run in runs if run["arm"] == arm]
      for arm in arms
    }
    for name, t in wordings.items()
  }  # fmt: skip


def main() -> None:
  """The command line."""
  parser = _prompted.parser(__doc__, steps=700, limit=50)
  parser.add_argument("--tuning", type=int, default=100, help="steps of tuning")
  parser.add_argument("--clusters", nargs="+", default=["1", "3", "5"])
  arguments = parser.parse_args()

  def run(arm: str, seed: int, home: pathlib.Path) -> _prompted.Row:
    before = home.with_name(f"{UNTUNED}_{seed}")
    found = (
      base(seed, home, arguments.steps) if arm == UNTUNED
      else tuned(int(arm), seed, home, arguments.tuning, before)
    )  # fmt: skip
    found["cells"] = _prompted.ask(
      home, home / "asked", SETS=[HELD_OUT], TEMPLATES=(ASKED, TOLD), LIMIT=arguments.limit,
      MAX_DECODE_LENGTH=8,
    )  # fmt: skip
    return found

  runs = _prompted.each(arguments, [UNTUNED, *arguments.clusters], run)
  results = accuracies(runs)
  for name, points in results.items():
    print(name, {n: [round(value, 3) for value in values] for n, values in points.items()})
  _prompted.write(arguments.output, results, runs)
  if arguments.output:
    panels = {"": [_prompted.Curve(name, points) for name, points in results.items()]}
    _prompted.plot(
      panels, arguments.output.with_suffix(".png"), "A cluster that was held out",
      "clusters of tuning",
    )  # fmt: skip


if __name__ == "__main__":
  main()
