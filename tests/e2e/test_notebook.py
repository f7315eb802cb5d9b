"""The notebook runs from top to bottom, as on Colab after its install cell."""

import os
import pathlib
import re

import nbclient
import nbformat
import pytest

NOTEBOOK = pathlib.Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_notebook_trains_plots_and_samples(monkeypatch, tmp_path):
  monkeypatch.setenv("MTM_NOTEBOOK_STEPS", "12")
  monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1])]))
  monkeypatch.delenv("XLA_FLAGS", raising=False)  # one device, as on a laptop
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
  text = "".join(out.get("text", "") for out in outputs)
  assert "parameters" in text and "nats/token" in text
  assert any("image/png" in out.get("data", {}) for out in outputs)
  assert text.count("def read_lines(path):") == 2
  before, after = (float(x) for x in text.split("train ")[1].split(",")[0].split(" → "))
  assert after < before - 0.5  # it learned something in twelve steps


@pytest.mark.slow
def test_what_was_loaded_is_fine_tuned_and_beats_the_majority(monkeypatch, tmp_path):
  monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  monkeypatch.delenv("MPLBACKEND", raising=False)  # Jupyter's own shows what is drawn
  notebook = nbformat.read(NOTEBOOK.with_name("finetune.ipynb"), as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
  text = "".join(out.get("text", "") for out in outputs)
  assert "begun afresh: 4: head/out/bias, head/out/kernel, head/pooler/bias" in text
  assert any("image/png" in out.get("data", {}) for out in outputs)
  assert text.count(" BERT: ") == text.count(" T5: ") == 8
  found = re.search(r"BERT (\S+), T5 (\S+), majority (\S+)", text)
  bert, t5, majority = map(float, found.groups())
  assert bert > majority + 0.2 and t5 > majority + 0.2


@pytest.mark.slow
def test_questions_are_asked_with_exemplars_and_by_vote(monkeypatch, tmp_path):
  monkeypatch.setenv("MTM_NOTEBOOK_STEPS", "12")
  monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  notebook = nbformat.read(NOTEBOOK.with_name("fewshot.ipynb"), as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
  text = "".join(out.get("text", "") for out in outputs)
  assert text.count("larger than") >= 3 and text.count("of 20 questions") == 5
  assert "accuracy/per_byte" in text and any("image/png" in o.get("data", {}) for o in outputs)
  assert "asked again: 0\n" in text and "asked anew: 20\n" in text


@pytest.mark.slow
def test_instructions_are_learned_and_a_cluster_is_held_out(monkeypatch, tmp_path):
  monkeypatch.setenv("MTM_NOTEBOOK_STEPS", "12")
  monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
  monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  notebook = nbformat.read(NOTEBOOK.with_name("instruct.ipynb"), as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
  text = "".join(out.get("text", "") for out in outputs)
  assert "OPTIONS:" in text and "arithmetic" in text
  assert any("image/png" in out.get("data", {}) for out in outputs)
  assert len(re.findall(r"^\w+ +\d+\.\d %$", text, re.MULTILINE)) == text.count("| right: ") == 5


def test_patterns_are_drawn_and_two_engines_agree(monkeypatch, tmp_path):
  monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
  monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  notebook = nbformat.read(NOTEBOOK.with_name("patterns.ipynb"), as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
  text = "".join(out.get("text", "") for out in outputs)
  assert sum("image/png" in out.get("data", {}) for out in outputs) == 2
  shares = [float(x) for x in re.findall(r"(\S+)% of the blocks", text)]
  assert shares[0] > shares[1] > shares[2]
  assert float(text.split("largest difference: ")[1]) < 1e-5
