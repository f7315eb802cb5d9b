"""Tables and the picture of few-shot results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from mtm.report import fewshot, tables


def results() -> dict[str, Any]:
  rows = [("copa", "causes", "accuracy"), ("xcopa", "causes", "accuracy"), ("sums", "math", "bleu")]
  sets = [
    {"set": name, "cluster": cluster, "k": k, "metric": metric,
     "value": (0.25 + 0.1 * k) * (100 if metric == "bleu" else 1),
     "stderr": 0.05 if metric == "accuracy" else math.nan}
    for name, cluster, metric in rows for k in (0, 1, 4)
    if (name, k) != ("xcopa", 1)
  ]  # fmt: skip
  clusters = [
    {"cluster": "causes", "k": k, "metric": "accuracy", "value": 0.3 + 0.05 * k, "stderr": 0.04,
     "sets": 2} for k in (0, 4)
  ]  # fmt: skip
  return {"sets": sets, "clusters": clusters}


def test_a_cluster_s_table_has_its_sets_their_exemplars_and_the_mean() -> None:
  first, second = (tables.text(table) for table in fewshot.cluster_tables(results()))
  lines = [line.split() for line in first.splitlines() if line.strip()]
  assert lines[0] == ["causes"] and lines[1] == ["set", "metric", "0-shot", "1-shot", "4-shot"]
  assert "copa accuracy 25.0 ± 5.0 35.0 ± 5.0 65.0 ± 5.0".split() in lines
  assert "xcopa accuracy 25.0 ± 5.0 65.0 ± 5.0".split() in lines
  assert "mean accuracy 30.0 ± 4.0 50.0 ± 4.0".split() in lines
  assert "25.0" in second and "±" not in second


def test_the_harness_s_results_are_a_row_a_metric() -> None:
  values = {"alias": "mine", "acc,none": 0.5, "acc_stderr,none": 0.125, "f1,first": 1.0,
            "f1_stderr,first": "N/A"}  # fmt: skip
  shown = tables.text(fewshot.harness_table({"results": {"mine": values}}))
  lines = [line.split() for line in shown.splitlines() if line.strip()]
  assert lines[-2:] == [["mine", "acc", "0.5000", "0.1250"], ["mine", "f1,first", "1.0000"]]


def test_the_picture_has_a_panel_for_each_metric_and_a_line_for_each_set(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  drawn: list[Any] = []
  plain = matplotlib.figure.Figure.savefig

  def kept(figure: Any, *args: Any, **kwargs: Any) -> None:
    drawn.append(figure)
    plain(figure, *args, **kwargs)

  monkeypatch.setattr(matplotlib.figure.Figure, "savefig", kept)
  path = fewshot.shots_curve(results(), tmp_path / "plots" / "x.png", "A title")
  assert path.read_bytes().startswith(b"\x89PNG")
  first, second = drawn[0].axes
  assert first.get_ylabel() == "accuracy" and second.get_ylabel() == "bleu"
  labels = [text.get_text() for text in first.get_legend().get_texts()]
  assert labels == ["copa", "xcopa", "causes, mean"]
  assert [text.get_text() for text in first.get_xticklabels()] == ["0", "1", "4"]
  copa = first.get_legend_handles_labels()[0][0].lines[0]
  np.testing.assert_allclose(copa.get_ydata(orig=False), [0.25, 0.35, 0.65])
