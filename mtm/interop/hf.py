"""HuggingFace directories: `config.json`, safetensors, tokenizer files."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mtm.discovery import modules
from mtm.errors import UserError, nearest
from mtm.families._names import Row
from mtm.families._published import Config, Published, complete
from mtm.interop import tree
from mtm.interop._base import Export, Foreign
from mtm.interop.safetensors import Renamed, Safetensors, save

CONFIG = "config.json"
# Files that say how text becomes ids, and how the original generates: copied byte for byte.
TOKENIZER = (
  "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
  "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
  "tokenizer.model", "prophetnet.tokenizer", "generation_config.json",
  "chat_template.jinja",
)  # fmt: skip
# What restricts which tokens come, for any way of choosing among them.
GENERATION = (
  "forced_bos_token_id", "forced_eos_token_id", "min_length", "min_new_tokens",
  "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "suppress_tokens",
  "begin_suppress_tokens", "repetition_penalty", "encoder_repetition_penalty", "sequence_bias",
  "exponential_decay_length_penalty", "forced_decoder_ids",
)  # fmt: skip
OLD = {"gamma": "weight", "beta": "bias"}  # what norms were called in TensorFlow's days
_DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}


@functools.cache
def published() -> dict[str, tuple[Published, ...]]:
  """Every family's descriptions, by the model type of its config; heads may have one each."""
  found: dict[str, tuple[Published, ...]] = {}
  for module in modules("mtm.families"):
    described = getattr(module, "HF", ())
    for one in described if isinstance(described, tuple) else (described,):
      found[one.model_type] = (*found.get(one.model_type, ()), one)
  return found


@dataclasses.dataclass(frozen=True)
class HuggingFace:
  """See `mtm.interop._base.Format`."""

  name: str = "hf"
  optimizer: bool = False

  def found(self, path: Path) -> bool:
    """See `Format.found`."""
    return (path / CONFIG).is_file()

  def open(self, path: Path) -> Foreign:
    """See `Format.open`."""
    values = read_config(path)
    return self._as(path, values, family_of(values, str(path / CONFIG)))

  def heads(self, path: Path) -> list[Foreign]:
    """The checkpoint as each model of its type that mtm knows, whatever head its config names: to
    take what there is of a base model, or the pooler of one that was saved for something else.

    Raises:
      UserError: mtm knows no model of its type, it is damaged, or cannot be honoured.
    """
    values = read_config(path)
    kind = str(values.get("model_type"))
    if kind not in published():
      family_of(values, str(path / CONFIG))
    return [self._as(path, values, family) for family in published()[kind]]

  def _as(self, path: Path, values: Mapping[str, Any], family: Published) -> Foreign:
    config = Config(values, str(path / CONFIG))
    arguments = complete(family.build, family.arguments(config))
    config.finish()
    weights = Safetensors(path)
    table, rows, source = _table(weights, family, arguments)
    kept = [CONFIG, *(name for name in TOKENIZER if (path / name).exists())]
    layout = {
      "renamed": {ours: name for ours, name in source.theirs.items() if ours != name},
      "copies": sorted(source.names() & family.copies.keys()),
      "absent": sorted({n for r in rows if r.optional for n in r.theirs} - source.names()),
      "table": table,
    }
    return Foreign(
      str(path), family.build, arguments, source, rows, family.ignored, family.copies,
      files={name: path / name for name in kept}, layout=layout,
      counted=family.counted, generation=_asked(path, values), **special(path, values, family.ids),
    )  # fmt: skip

  def write(self, path: Path, export: Export) -> int:
    """See `Format.write`."""
    families = [f for every in published().values() for f in every if f.build is export.build]
    if not families:
      raise UserError(
        f"{export.build.__name__} has no form at HuggingFace; those that have one:"
        f" {', '.join(sorted(published()))}"
      )
    values, layout = _kept(export.source)
    kind = values.get("model_type")
    family = next((f for f in families if f.model_type == kind), families[0])
    if not values:
      values = {
        "model_type": family.model_type, "architectures": [family.architectures[0]],
        **family.config(export.arguments), "dtype": "float32",
      }  # fmt: skip
      values |= _trained_ids(values, export)
    path.mkdir(parents=True, exist_ok=True)
    for folder in filter(None, (export.source, export.vocabulary)):
      for name in TOKENIZER:
        if (folder / name).exists():
          shutil.copyfile(folder / name, path / name)
    (path / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
    dtype = _DTYPES[values.get("dtype") or values.get("torch_dtype") or "float32"]
    return save(path, _named(export, family, layout, dtype))


def read_config(path: Path) -> dict[str, Any]:
  """The contents of a directory's `config.json`. Raises UserError where it is damaged."""
  return json_object(path / CONFIG)


def json_object(file: Path) -> dict[str, Any]:
  """What a JSON file of settings holds. Raises UserError where it is damaged."""
  try:
    values = json.loads(file.read_text())
  except (OSError, ValueError) as error:
    raise UserError(f"{file} cannot be read ({error}): copy it again") from error
  if not isinstance(values, dict):
    raise UserError(f"{file} is no config: it holds a {type(values).__name__}")
  return values


def family_of(values: Mapping[str, Any], where: str) -> Published:
  """The family that a config describes. Raises UserError where mtm has none."""
  known, kind = published(), values.get("model_type")
  if kind not in known:
    raise UserError(f"{where} has model_type = {kind!r}{nearest(str(kind), known)}")
  families = known[kind]
  names = set(values.get("architectures") or families[0].architectures)
  for family in families:
    if names <= set(family.architectures):
      return family
  readable = ", ".join(name for family in families for name in family.architectures)
  raise UserError(f"{where} is a {', '.join(sorted(names))}, and mtm reads of {kind}: {readable}")


def special(
  path: Path, values: Mapping[str, Any], defaults: Mapping[str, int | None]
) -> dict[str, Any]:
  """The special ids of a `Foreign`, by its field's names.

  Args:
    path: their directory; its generation_config.json says what ends a generation.
    values: their config.
    defaults: see `Published.ids`.
  """
  file = path / "generation_config.json"
  generation = _told(json_object(file) if file.is_file() else {})
  told = {**defaults, **generation, **_told(values)}
  begin = told.get("decoder_start_token_id", told.get("pad_token_id", 0))
  eos = generation.get("eos_token_id", told.get("eos_token_id"))
  return {
    "begin_id": begin if values.get("is_encoder_decoder") else None,
    "eos_id": tuple(eos) if isinstance(eos, list) else eos,
    "pad_id": told.get("pad_token_id"),
    "bos_id": told.get("bos_token_id"),
  }


def _asked(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
  """What it says of generating; where it has no generation_config.json its config may say it."""
  file = path / "generation_config.json"
  told = json_object(file) if file.is_file() else values
  return {name: told[name] for name in GENERATION if told.get(name) is not None}


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
  """What is said of special ids; null says nothing."""
  return {name: x for name, x in values.items() if name.endswith("_token_id") and x is not None}


def _trained_ids(values: Mapping[str, Any], export: Export) -> dict[str, Any]:
  """The special ids of a model that was trained here, for its config."""
  paired = bool(values.get("is_encoder_decoder"))
  eos = list(export.eos_id) if isinstance(export.eos_id, tuple) else export.eos_id
  found = {"decoder_start_token_id": export.begin_id if paired else None, "eos_token_id": eos}
  return {name: x for name, x in found.items() if x is not None}


def _table(
  weights: Safetensors, family: Published, arguments: Mapping[str, Any]
) -> tuple[int, Sequence[Row], Renamed]:
  """The number of the family's table that names these tensors, the first where none does; the
  table; and the tensors under its names."""
  every = [build(dict(arguments)) for build in (family.rows, *family.others)]
  sources = [_renamed(weights, family, rows) for rows in every]
  known = (source.names() for source in sources)
  found = [
    all(row.optional or names.issuperset(row.names(0)) for row in rows)
    for rows, names in zip(every, known, strict=True)
  ]
  number = found.index(True) if any(found) else 0
  return number, every[number], sources[number]


def _renamed(weights: Safetensors, family: Published, rows: Sequence[Row]) -> Renamed:
  """The tensors under the names of the table, also where a bare model or an old one was saved."""
  names = weights.names()
  bare = bool(family.prefix) and not any(name.startswith(family.prefix) for name in names)
  heads = {name.split("{}")[0] for row in rows for name in row.theirs} | family.copies.keys()
  theirs = {}
  for name in names:
    new = name if not bare or name in heads else family.prefix + name
    for old, today in OLD.items():
      new = re.sub(rf"\.{old}$", f".{today}", new)
    theirs[new] = name
  return Renamed(weights, theirs)


def _kept(source: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
  """The config and layout that an import kept, empty where there was none."""
  if source is None or not (source / CONFIG).exists():
    return {}, {}
  layout = source / "layout.json"
  return read_config(source), json.loads(layout.read_text()) if layout.exists() else {}


def _named(
  export: Export, family: Published, layout: Mapping[str, Any], dtype: Any
) -> Iterator[tuple[str, np.ndarray]]:
  """Their tensors in their dtype, copies and bare names as the import found them."""
  rows = (family.rows, *family.others)[layout.get("table", 0)](export.arguments)
  own = {name for row in rows for name in row.theirs}  # an untied head is no copy
  copies = {name: family.copies[name] for name in layout.get("copies", ()) if name not in own}
  renamed = layout.get("renamed", {})
  for name, values in tree.write(export.params, rows):
    if name in layout.get("absent", ()):
      continue
    cast = values.astype(dtype)
    yield renamed.get(name, name), cast
    for copy in (c for c, original in copies.items() if original == name):
      yield renamed.get(copy, copy), cast


FORMAT = HuggingFace()
