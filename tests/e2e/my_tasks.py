"""What a user writes: files of their own and a mixture of them."""

import os

from mtm.data.sources.files import csv_task, jsonl_task, text_task
from mtm.data.sources.mixtures import mixture
from mtm.data.vocabulary import Bytes

home, kind = os.environ["MY_DATA"], {"vocabulary": Bytes(0)}
splits = ("train", "validation")
jsonl_task("my_answers", {s: f"{home}/{s}.jsonl" for s in splits}, targets="a", **kind)
csv_task("my_table", {s: f"{home}/{s}.csv" for s in splits}, targets="q", **kind)
text_task("my_lines", {s: f"{home}/{s}.txt" for s in splits}, **kind)
mixture("my_mix", {"my_answers": 0.5, "my_table": 0.3, "my_lines": 0.2})
kind["metrics"] = [lambda targets, predictions: {"right": float(targets == predictions)}]
jsonl_task("my_pairs", {s: f"{home}/{s}.jsonl" for s in splits}, inputs="q", targets="a", **kind)
