"""The corpus that is on every machine: the source of the running interpreter's standard library.

About 12 MB of Python in 700 files, split by module, so that no file of a package is in one split
and its neighbour in the other. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import os
import pathlib
import sys
import sysconfig
import tempfile
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from typing import Any

from mtm.data.store import cache_directory, write_atomically
from mtm.data.vocabulary import SentencePiece
from mtm.errors import UserError, nearest

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

SPLITS = ("train", "validation")
SENTINELS = 100  # as T5 has

_SKIPPED = frozenset(
  {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib-dynload"}
)
# With this salt 6 % of the bytes are held out, from small and large modules alike, and neither
# the tables of `encodings` nor one giant package make up most of them.
_SALT = "stdlib5:"
_HELD_OUT_PERCENT = 6

_SAMPLED_CHARACTERS = 1_500_000  # held-out text takes 0.8 % more tokens than with 2,500,000
_CHUNK = 4_000
_RECIPE = 2  # change it with anything that changes the vocabulary: it is part of the cached name


def documents(split: str) -> Iterator[tuple[str, str]]:
  """Pairs of a file's name, such as `json/decoder.py`, and its text, sorted by name.

  Raises:
    UserError: there is no such split, the interpreter came without sources, or one is damaged.
  """
  if split not in SPLITS:
    raise UserError(f"the standard library has no split {split!r}{nearest(split, SPLITS)}")
  root = _root()
  for name in _names(root):
    if split_of(name) == split:
      yield name, _text(root / name)


def held_out() -> bytes:
  """All text of the validation split, file after file: what compressors are given."""
  return "".join(text for _, text in documents("validation")).encode()


def split_of(name: str) -> str:
  """The split of the file called `name`: a hash of its top-level module or package decides."""
  module = name.split("/")[0].removesuffix(".py")
  digest = hashlib.sha256((_SALT + module).encode()).digest()
  held_out = int.from_bytes(digest[:8], "big") % 100 < _HELD_OUT_PERCENT
  return "validation" if held_out else "train"


def pairs(split: str) -> Iterator[tuple[str, str, str]]:
  """Triples of a name, a signature and its docstring, for each documented function and class.

  The name is such as `json/decoder.py:JSONDecoder.decode`; the signature is the source from
  `def` or `class` to the colon, dedented; the docstring is cleaned as `inspect.cleandoc` does.

  Raises:
    UserError: as in `documents`.
  """
  yield from _pairs(split)


def functions(split: str) -> Iterator[tuple[str, str]]:
  """Pairs of a documented function's code, dedented and without its docstring, and the docstring.

  Functions that do nothing, such as abstract ones, are left out.

  Raises:
    UserError: as in `documents`.
  """
  yield from _functions(split)


@functools.cache
def _functions(split: str) -> tuple[tuple[str, str], ...]:
  """See `functions`, and `_pairs`."""
  found = []
  for _, node, lines in _documented(split):
    first, *rest = node.body
    if isinstance(node, ast.FunctionDef) and rest and first.lineno > node.lineno:
      kept = lines[node.lineno - 1 : first.lineno - 1] + lines[first.end_lineno : node.end_lineno]
      found.append((textwrap.dedent("\n".join(kept)).strip(), ast.get_docstring(node) or ""))
  return tuple(found)


@functools.cache
def _pairs(split: str) -> tuple[tuple[str, str, str], ...]:
  """See `pairs`. Parsing takes seconds, and several tasks of a mixture read the same."""
  return tuple(_parsed_pairs(split))


def _parsed_pairs(split: str) -> Iterator[tuple[str, str, str]]:
  for name, node, lines in _documented(split):
    first = node.body[0].lineno
    if first > node.lineno:
      signature = textwrap.dedent("\n".join(lines[node.lineno - 1 : first - 1])).strip()
      yield name, signature, ast.get_docstring(node) or ""


def _documented(split: str) -> Iterator[tuple[str, Definition, list[str]]]:
  """Names of functions and classes with docstrings, their syntax and the lines of their file."""
  for name, text in documents(split):
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in the library's own strings
        tree = ast.parse(text)
    except SyntaxError:
      continue  # a template or a file of another Python's grammar: it has no functions to show
    lines = text.split("\n")
    for path, node in _definitions(tree, ""):
      if ast.get_docstring(node):
        yield f"{name}:{path}", node, lines


def version() -> str:
  """What tells one corpus from another without reading it: the interpreter and its place."""
  return f"{sys.version} {sysconfig.get_path('stdlib')}"


@functools.cache
def fingerprint() -> str:
  """16 hexadecimal digits that change with any name or byte of the corpus."""
  digest = hashlib.sha256()
  for split in SPLITS:
    for name, text in documents(split):
      digest.update(f"{split}\0{name}\0{text}\0".encode())
  return digest.hexdigest()[:16]


def vocabulary(size: int = 4096) -> SentencePiece:
  """A unigram vocabulary of the training split, trained on first use (seconds) and then cached.

  Args:
    size: ids in all: 3 special ones, 256 bytes, the pieces, and T5's 100 sentinels at the end.

  Raises:
    UserError: `size` leaves no room for pieces, or the cache cannot be written.
  """
  path = cache_directory() / "stdlib" / f"{fingerprint()}-{size}-{_RECIPE}.model"
  if not path.exists():
    write_atomically(path, train_sentencepiece(_sample(), size - SENTINELS))
  return SentencePiece(str(path), extra_ids=SENTINELS)


def train_sentencepiece(texts: Iterator[str], size: int) -> bytes:
  """A lossless unigram model: no normalisation, byte fallback, indentation as pieces.

  Deterministic: the same texts give the same bytes, so two processes that train at once do not
  disagree.

  Args:
    texts: what to learn from; newlines and runs of blanks count like any character.
    size: ids in all; 0 pads, 1 ends, 2 is unknown, then 256 bytes, then the pieces.

  Raises:
    UserError: `size` leaves no room for pieces, or the texts do not support so many.
  """
  import sentencepiece
  from sentencepiece import sentencepiece_model_pb2

  if size < 320:
    raise UserError(
      f"a vocabulary of {size} ids has no room for pieces beside 256 bytes: take at least 320, "
      f"and {SENTINELS} more with sentinels"
    )
  model = io.BytesIO()
  try:
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
      # "▁" is the library's own mark for a space; read as its neighbour "▂" it keeps its 3 bytes.
      rules.write("2581\t2582\n")
      rules.flush()
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=model,
        model_type="unigram",
        vocab_size=size,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_tsv=rules.name,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        byte_fallback=True,
        character_coverage=0.9999,
        max_sentence_length=1 << 20,
        seed_sentencepiece_size=max(20_000, 3 * size),
        num_sub_iterations=1,
        num_threads=2,
        minloglevel=3,
      )
  except (RuntimeError, OSError) as e:
    raise UserError(f"these texts do not support a vocabulary of {size} ids ({e})") from e
  pb: Any = sentencepiece_model_pb2
  proto = pb.ModelProto.FromString(model.getvalue())
  proto.normalizer_spec.ClearField("normalization_rule_tsv")  # the name of a temporary file
  return proto.SerializeToString(deterministic=True)


def _sample() -> Iterator[str]:
  """Evenly spread chunks of the training split, cut at line ends."""
  chunks = [chunk for _, text in documents("train") for chunk in _chunks(text)]
  stride = max(sum(map(len, chunks)) / _SAMPLED_CHARACTERS, 1.0)
  yield from (chunks[int(i * stride)] for i in range(int(len(chunks) / stride)))


def _chunks(text: str) -> Iterator[str]:
  held = ""
  for line in text.splitlines(keepends=True):
    held += line
    if len(held) >= _CHUNK:
      yield held
      held = ""
  if held:
    yield held


def _root() -> pathlib.Path:
  root = pathlib.Path(sysconfig.get_path("stdlib"))
  if not (root / "os.py").is_file():
    raise UserError(
      f"the standard library's source is not at {root}: run mtm with a Python that ships .py files"
    )
  return root


@functools.cache
def _names(root: pathlib.Path) -> tuple[str, ...]:
  """Source files relative to `root`, sorted, without tests and what this machine's build wrote."""

  def kept(part: str) -> bool:
    return part not in _SKIPPED and not part.startswith(("config-", "_sysconfigdata"))

  found = []
  for folder, below, files in os.walk(root):
    below[:] = filter(kept, below)  # what is installed beside the library is never looked at
    place = pathlib.Path(folder).relative_to(root)
    found += [(place / file).as_posix() for file in files if file.endswith(".py") and kept(file)]
  return tuple(sorted(found))


def _text(path: pathlib.Path) -> str:
  """The file's text in the encoding it declares; line ends are left as they are."""
  data = path.read_bytes()
  try:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return data.decode(encoding)
  except (SyntaxError, UnicodeDecodeError) as e:
    raise UserError(f"{path}: {e}; reinstall this Python, its library is damaged") from e


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
  """Functions and classes under `node` in source order, each with its dotted path."""
  for child in ast.iter_child_nodes(node):
    if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
      yield prefix + child.name, child
      yield from _definitions(child, f"{prefix}{child.name}.")
    else:
      yield from _definitions(child, prefix)
