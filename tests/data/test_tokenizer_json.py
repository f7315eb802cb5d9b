"""Tokenizers of Hugging Face as vocabularies: saved whole, equal in SeqIO, plain about faults."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers as tk

from mtm.data import vocabulary as V
from mtm.data.tokenizer_json import TokenizerJson
from mtm.errors import UserError

SENTENCES = [
  "the quick brown fox jumps over the lazy dog",
  "def f(x):\n    return x  # two  blanks",
  "我们在北京学习语言模型。",
  "größer, café, naïve and \U0001f600\U0001f680",
] * 3
TEXTS = ["", *SENTENCES[:4], "  leading, trailing   ", "\ttabs\r\n\x00", "unseen: ЖÞ \U0001f9ff"]


def byte_level(*special: str, size: int = 350) -> tk.Tokenizer:
  """A byte-level BPE, special tokens first."""
  backend = tk.Tokenizer(tk.models.BPE())
  backend.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tk.decoders.ByteLevel()
  trainer = tk.trainers.BpeTrainer(
    vocab_size=size,
    special_tokens=list(special),
    initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  backend.train_from_iterator(SENTENCES, trainer)
  return backend


def written(folder: Path, backend: tk.Tokenizer, **files: dict) -> Path:
  """A checkpoint's directory with the tokenizer and the named JSON files."""
  folder.mkdir(parents=True, exist_ok=True)
  backend.save(str(folder / "tokenizer.json"))
  for name, told in files.items():
    (folder / f"{name}.json").write_text(json.dumps(told))
  return folder


@pytest.fixture
def bytewise(tmp_path: Path) -> TokenizerJson:
  config = {"pad_token": "<pad>", "eos_token": {"content": "</s>"}, "bos_token": "<s>"}
  backend = byte_level("<s>", "<pad>", "</s>")
  return TokenizerJson.from_hf(written(tmp_path / "hf", backend, tokenizer_config=config))


@pytest.mark.parametrize("text", TEXTS)
def test_a_byte_level_tokenizer_gives_every_text_and_its_bytes_back(bytewise, text):
  ids = bytewise.encode(text)
  assert bytewise.decode(ids) == text
  assert bytewise.token_bytes()[ids].sum() == len(text.encode())


def test_token_bytes_are_those_of_each_token(bytewise):
  counts = bytewise.token_bytes()
  assert counts.dtype == np.int32 and counts.shape == (bytewise.vocab_size,) == (350,)
  assert counts[:3].tolist() == [0, 0, 0] and (counts[3:259] == 1).all()
  counts[:] = 7
  assert bytewise.token_bytes()[0] == 0  # a reader may change its own


def test_an_added_word_counts_and_has_its_bytes(tmp_path):
  backend = byte_level("</s>")
  backend.add_tokens(["größer"])
  vocabulary = TokenizerJson.from_hf(written(tmp_path, backend))
  assert vocabulary.vocab_size == 351
  assert vocabulary.encode("größer")[0] == 350
  assert vocabulary.token_bytes()[350] == 8


def test_byte_fallback_has_known_bytes(tmp_path):
  pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "▁h"]
  ids = {piece: i for i, piece in enumerate(pieces)}
  backend = tk.Tokenizer(tk.models.BPE(ids, [("▁", "h")], unk_token="<unk>", byte_fallback=True))
  backend.normalizer = tk.normalizers.Replace(" ", "▁")
  steps = [tk.decoders.Replace("▁", " "), tk.decoders.ByteFallback(), tk.decoders.Fuse()]
  backend.decoder = tk.decoders.Sequence(steps)
  backend.add_special_tokens(["<unk>"])
  vocabulary = TokenizerJson.from_hf(written(tmp_path, backend))
  assert vocabulary.unk_id == 0
  for text in ("hi hi", "漢 h"):
    assert vocabulary.token_bytes()[vocabulary.encode(text)].sum() == len(text.encode())
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_bytes_are_unknown_where_a_text_may_lose_some(tmp_path):
  backend = tk.Tokenizer(tk.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
  assert TokenizerJson.from_hf(written(tmp_path / "words", backend)).token_bytes() is None
  backend = tk.Tokenizer(tk.models.BPE({"a": 0}, []))
  backend.decoder = tk.decoders.ByteLevel()
  assert TokenizerJson.from_hf(written(tmp_path / "a", backend)).token_bytes() is None


@pytest.mark.parametrize(
  ("files", "ids"),
  [
    ({}, (0, None, None, None)),
    ({"special_tokens_map": {"eos_token": {"content": "<b>"}}}, (1, 1, None, None)),
    ({"tokenizer_config": {"cls_token": "<a>", "sep_token": "<c>"}}, (2, 2, 0, None)),
    ({"config": {"eos_token_id": 1, "pad_token_id": -1}}, (1, 1, None, None)),
    (
      {"generation_config": {"eos_token_id": [2, 1]}, "config": {"eos_token_id": 1}},
      (2, 2) + (None,) * 2,
    ),
    (
      {
        "tokenizer_config": {"eos_token": "<c>", "pad_token": "absent", "unk_token": None},
        "special_tokens_map": {"eos_token": "<b>", "unk_token": "<a>"},
        "config": {"eos_token_id": 1, "pad_token_id": 1},
      },
      (1, 2, None, 0),
    ),
  ],
)
def test_special_ids_are_found_where_the_checkpoint_tells_them(files, ids, tmp_path):
  v = TokenizerJson.from_hf(written(tmp_path, byte_level("<a>", "<b>", "<c>"), **files))
  assert (v.pad_id, v.eos_id, v.bos_id, v.unk_id) == ids


def test_no_special_token_truncation_or_padding_is_put_in(tmp_path):
  backend = byte_level("<s>", "</s>")
  backend.post_processor = tk.processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
  )
  backend.enable_truncation(2)
  backend.enable_padding(length=64)
  v = TokenizerJson.from_hf(written(tmp_path, backend, special_tokens_map={"eos_token": "</s>"}))
  assert v.decode(v.encode(SENTENCES[1])) == SENTENCES[1]
  assert not {0, 1} & set(v.encode(SENTENCES[1])) and v.encode("") == []
  assert V.terminated(v, "a") == [*v.encode("a"), 1]


def test_decoding_ends_at_the_end_and_skips_padding(bytewise):
  ids = bytewise.encode("as is")
  begin, pad, end = bytewise.bos_id, bytewise.pad_id, bytewise.eos_id
  assert (begin, pad, end) == (0, 1, 2)
  assert bytewise.decode([begin, *ids, pad, pad]) == "as is"
  assert bytewise.decode([*ids, end, *ids]) == "as is"
  assert bytewise.decode(np.array([*ids, 10**6, -1], np.int32)) == "as is"


def test_an_ordinary_first_token_is_no_padding(tmp_path):
  vocabulary = TokenizerJson.from_hf(written(tmp_path, byte_level()))
  assert vocabulary.pad_id == 0
  assert vocabulary.decode(vocabulary.encode("!a!")) == "!a!" and vocabulary.encode("!") == [0]


def test_a_foreign_id_decodes_as_unknown(tmp_path):
  backend = tk.Tokenizer(tk.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
  vocabulary = TokenizerJson.from_hf(written(tmp_path, backend))
  assert vocabulary.decode([1, 99]) == "a [UNK]"


def test_sentinels_are_the_last_ids_and_decode_as_themselves(tmp_path):
  backend = byte_level("</s>")
  backend.add_special_tokens([f"<extra_id_{i}>" for i in reversed(range(5))])
  v = TokenizerJson.from_hf(written(tmp_path, backend))
  assert v.extra_ids == 5 and v.token_id("<extra_id_0>") == v.vocab_size - 1
  assert v.decode(v.encode("a<extra_id_0> b")) == "a<extra_id_0> b"
  assert v.token_id("absent") is None


def test_what_is_saved_loads_alike_from_another_place(bytewise, tmp_path):
  bytewise.save(tmp_path / "here")
  bytewise.save(tmp_path / "here")  # once more does no harm
  original = Path(bytewise.path).read_bytes()
  shutil.move(tmp_path / "here", tmp_path / "there")
  assert (tmp_path / "there" / "tokenizer.json").read_bytes() == original
  loaded = V.load(tmp_path / "there")
  assert loaded == bytewise and hash(loaded) == hash(bytewise)
  assert isinstance(loaded, TokenizerJson) and loaded.path != bytewise.path
  loaded.save(tmp_path / "there")  # over itself
  assert V.load(tmp_path / "there") == loaded


def test_other_ids_and_other_files_are_unequal(bytewise, tmp_path):
  other = TokenizerJson.from_hf(
    written(tmp_path / "o", byte_level("<s>", "<pad>", "</s>", size=340))
  )
  assert bytewise != other and bytewise != TokenizerJson(bytewise.path) and bytewise != "x"


def test_ids_are_seqios_in_python_and_in_tensorflow(bytewise):
  from mtm.data._tensorflow import tensorflow

  tf, theirs = tensorflow(), bytewise.to_seqio()
  for text in TEXTS:
    ids = bytewise.encode(text)
    assert list(theirs.encode(text)) == ids
    assert theirs.encode_tf(tf.constant(text)).numpy().tolist() == ids
    assert theirs.decode([*ids, 2, 5]) == text
    assert theirs.decode_tf(tf.constant([*ids, 2, 5], tf.int32)).numpy().decode() == text
  rows = theirs.decode_tf(tf.constant([[10, 11, 2], [12, 2, 13]]))
  assert [row.decode() for row in rows.numpy()] == [bytewise.decode(r) for r in ([10, 11], [12])]
  assert (theirs.pad_id, theirs.eos_id, theirs.bos_id, theirs.unk_id) == (1, 2, 0, None)
  assert (theirs.vocab_size, theirs.extra_ids) == (350, 0)
  dataset = tf.data.Dataset.from_tensor_slices(TEXTS[:3]).map(theirs.encode_tf)
  assert dataset.element_spec.shape.as_list() == [None] and dataset.element_spec.dtype == tf.int32
  assert [e.tolist() for e in dataset.as_numpy_iterator()] == [*map(bytewise.encode, TEXTS[:3])]


def test_the_seqio_vocabulary_is_copied_and_compared(bytewise):
  theirs = bytewise.to_seqio()
  assert theirs.twin is bytewise
  for same in (bytewise.to_seqio(), copy.deepcopy(theirs), pickle.loads(pickle.dumps(theirs))):
    assert same == theirs and hash(same) == hash(theirs)
  assert theirs != TokenizerJson(bytewise.path).to_seqio()


def test_a_missing_file_is_told_with_its_neighbour(tmp_path):
  (tmp_path / "tokeniser.json").write_text("{}")
  with pytest.raises(UserError, match=r"no such file; did you mean 'tokeniser.json'\?"):
    TokenizerJson.from_hf(tmp_path)
  with pytest.raises(UserError, match="no such file"):
    TokenizerJson(str(tmp_path / "no" / "tokenizer.json")).encode("a")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"{}", lambda b: b"\xff"])
def test_a_damaged_file_is_told_in_one_line(damage, bytewise, tmp_path):
  path = tmp_path / "tokenizer.json"
  path.write_bytes(damage(Path(bytewise.path).read_bytes()))
  vocabulary = TokenizerJson(str(path))
  for use in (
    lambda: vocabulary.encode("a"),
    vocabulary.to_seqio,
    lambda: vocabulary.save(tmp_path),
  ):
    with pytest.raises(UserError, match="tokenizer.json: damaged, or no tokenizer.json") as told:
      use()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_damaged_configuration_is_told(text, bytewise):
  (Path(bytewise.path).parent / "config.json").write_text(text)
  with pytest.raises(UserError, match="config.json: damaged .*; copy it again"):
    TokenizerJson.from_hf(Path(bytewise.path).parent)


def test_a_missing_library_is_told(monkeypatch, tmp_path):
  written(tmp_path, byte_level())
  monkeypatch.setitem(sys.modules, "tokenizers", None)
  with pytest.raises(UserError, match="pip install tokenizers"):
    TokenizerJson.from_hf(tmp_path)


def test_it_is_imported_without_its_libraries():
  code = (
    "import sys, mtm.data.tokenizer_json, mtm.data.vocabularies;"
    "print({'tensorflow', 'seqio', 'tokenizers', 'transformers', 'torch'} & set(sys.modules))"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "set()"
