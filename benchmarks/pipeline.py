"""Speed of the input pipeline: `python -m benchmarks.pipeline [--output FILE.json]`.

Packed tokens a second of each objective, from the token cache to NumPy batches, with the prefetch
thread that training uses and a reader that does nothing else. Documents have about 700 tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mtm.data._tensorflow import seqio, tensorflow
from mtm.data.pipeline import Dataset
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.mlm import MaskedLM
from mtm.objectives.prefix_lm import PrefixLM
from mtm.objectives.seq2seq import Seq2Seq
from mtm.objectives.span_corruption import SpanCorruption
from mtm.programs import allocator
from mtm.types import Objective

TASK = "benchmark_documents"
VOCAB = 32128
GOAL = 1.2e6  # tokens a second


@dataclasses.dataclass(frozen=True)
class Case:
  """What is measured: an objective, the feature lengths and the length that rows are named by."""

  name: str
  objective: Objective
  lengths: Mapping[str, int]


CASES = [
  Case("causal LM, 256", CausalLM(), {"targets": 256}),
  Case("causal LM, 2048", CausalLM(), {"targets": 2048}),
  Case("prefix LM, 512 + 512", PrefixLM(), {"inputs": 512, "targets": 512}),
  Case("span corruption, 512/114", SpanCorruption(), {"inputs": 512, "targets": 114}),
  Case("masked LM, 512", MaskedLM(), {"targets": 512}),
  Case("seq2seq, 1024/1024", Seq2Seq(), {"inputs": 1024, "targets": 1024}),
]


def register(documents: int) -> None:
  """A task of `documents` documents whose lengths are log-normal about 700 tokens."""
  rng = np.random.default_rng(0)
  lengths = np.clip(rng.lognormal(np.log(560), 0.67, documents), 8, 8192).astype(int)

  def read(split: str, shuffle_files: bool, seed: int | None = None) -> Any:
    del split, shuffle_files, seed

    def generate() -> Iterator[dict[str, np.ndarray]]:
      ids = np.random.default_rng(1)
      for n in lengths:
        text = ids.integers(3, VOCAB - 100, n, np.int32)
        yield {"inputs": text[: n // 2], "targets": text}

    tf = tensorflow()
    spec = tf.TensorSpec([None], tf.int32)
    return tf.data.Dataset.from_generator(
      generate, output_signature={"inputs": spec, "targets": spec}
    )

  feature = seqio().Feature(seqio().PassThroughVocabulary(VOCAB, eos_id=1))
  seqio().TaskRegistry.add(
    TASK,
    source=seqio().FunctionDataSource(read, splits=["train"]),
    preprocessors=[seqio().preprocessors.append_eos],
    output_features={"inputs": feature, "targets": feature},
    metric_fns=[],
  )


def measure(case: Case, batch_tokens: int, trials: int, seconds: float) -> dict[str, Any]:
  """Tokens a second of each trial, and how much of the rows is filled."""
  length = max(case.lengths.values())
  batches = Dataset(TASK, case.lengths, batch_size=max(1, batch_tokens // length)).batches(
    case.objective
  )
  next(batches)  # the thread has started
  rates, filled, places = [], 0, 0
  for _ in range(trials):
    tokens, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
      batch = next(batches)
      for name, ids in batch.items():
        if name.endswith("_segment_ids"):
          count = int(np.count_nonzero(ids))
          tokens, filled, places = tokens + count, filled + count, places + ids.size
    rates.append(tokens / (time.perf_counter() - began))
  batches.close()
  return {
    "case": case.name,
    "tokens_per_second": rates,
    "median": statistics.median(rates),
    "fill": filled / places,
  }


def main(argv: list[str] | None = None) -> None:
  """Measures, prints a table, and writes it."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--output", help="a JSON file to write")
  parser.add_argument("--documents", type=int, default=10_000)
  parser.add_argument("--batch_tokens", type=int, default=32_768, help="places of a batch")
  parser.add_argument("--trials", type=int, default=5)
  parser.add_argument("--seconds", type=float, default=2.0, help="of a trial")
  args = parser.parse_args(argv)
  # The folder stays mapped until the process ends, which some systems mind when it is deleted.
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    os.environ["MTM_CACHE"] = folder
    register(args.documents)
    results = [measure(case, args.batch_tokens, args.trials, args.seconds) for case in CASES]
  table = Table(title=f"Packed tokens a second, {args.trials} trials")
  for column in ("objective", "median", "slowest", "fastest", "÷ 1.2 M", "rows filled"):
    table.add_column(column, justify="left" if column == "objective" else "right")
  for r in results:
    rates = r["tokens_per_second"]
    numbers = [f"{x / 1e6:.2f} M" for x in (r["median"], min(rates), max(rates))]
    table.add_row(r["case"], *numbers, f"{r['median'] / GOAL:.1f}", f"{r['fill']:.1%}")
  Console().print(table)
  if args.output:
    machine = {
      "cpus": os.cpu_count(),
      "python": platform.python_version(),
      "numpy": np.__version__,
      "machine": platform.platform(),
    }
    told = {"arguments": vars(args), "machine": machine, "results": results}
    pathlib.Path(args.output).write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
  allocator.tune()
  main()
