"""The standard library's source: what every machine can train on without a download."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mtm.data.sources import stdlib

NAMES = ("code", "docstrings", "docstrings_reverse", "docstrings_lm", "docstrings_text")
LICENCES = {f"stdlib_{name}": "PSF-2.0" for name in NAMES}


def register() -> None:
  """Registers the tasks `stdlib_code`, `stdlib_docstrings*` and the mixtures of them."""
  from mtm.data._tensorflow import seqio

  _add("stdlib_code", _code, ["targets"])
  _add("stdlib_docstrings", _pairs(lambda s, d: (s, d)), ["inputs", "targets"])
  _add("stdlib_docstrings_reverse", _pairs(lambda s, d: (d, s)), ["inputs", "targets"])
  _add("stdlib_docstrings_lm", _texts(lambda s, d: f'{s}\n"""{d}"""\n'), ["targets"])
  _add("stdlib_docstrings_text", _texts(lambda _, d: d), ["targets"])
  mixtures = {
    "stdlib_mix": [
      ("stdlib_code", 0.7),
      ("stdlib_docstrings_lm", 0.2),
      ("stdlib_docstrings_text", 0.1),
    ],
    "stdlib_docstrings_both": [("stdlib_docstrings", 0.5), ("stdlib_docstrings_reverse", 0.5)],
  }
  for name, rates in mixtures.items():
    seqio().MixtureRegistry.add(name, rates)


def _add(name: str, records: Callable[[str], Iterator[dict[str, str]]], keys: list[str]) -> None:
  from mtm.data._tensorflow import seqio
  from mtm.data.lazy_vocabulary import lazy_seqio
  from mtm.data.sources import _records
  from mtm.tasks import _metrics

  origin = _records.Origin(
    records, stdlib.SPLITS, keys, "this Python's standard library", stdlib.version()
  )
  feature = seqio().Feature(lazy_seqio(stdlib.vocabulary), add_eos=True)
  seqio().TaskRegistry.add(
    name,
    source=_records.source(origin, origin.held),
    preprocessors=[seqio().preprocessors.tokenize, seqio().preprocessors.append_eos],
    output_features={key: feature for key in keys},
    metric_fns=[_metrics.sequence_accuracy] if "inputs" in keys else [],
  )


def _code(split: str) -> Iterator[dict[str, str]]:
  """One file an example."""
  return ({"targets": text} for _, text in stdlib.documents(split))


def _pairs(
  order: Callable[[str, str], tuple[str, str]],
) -> Callable[[str], Iterator[dict[str, str]]]:
  """One documented function or class an example; `order` says what is asked and what answered."""

  def records(split: str) -> Iterator[dict[str, str]]:
    for _, signature, docstring in stdlib.pairs(split):
      inputs, targets = order(signature, docstring)
      yield {"inputs": inputs, "targets": targets}

  return records


def _texts(write: Callable[[str, str], str]) -> Callable[[str], Iterator[dict[str, str]]]:
  """One documented function or class an example, as one text."""

  def records(split: str) -> Iterator[dict[str, str]]:
    for _, signature, docstring in stdlib.pairs(split):
      yield {"targets": write(signature, docstring)}

  return records
