"""Ids and texts are those of `transformers`, live, on 10,000 strings a tokenizer.

The vocabularies are trained here, because nothing is fetched. Compared are ids without special
tokens and with those that frame a text, and texts decoded without clean-up and with special tokens
left in; special tokens that a text spells out stand anywhere in it. T5's `spiece.model` of a
directory that names its kind runs in `tokenizers`, as in `transformers`; a model that holds its
sentinels itself (mT5) runs in the library that it was trained with, where both differ: it knows
no special token in a text but sentinels after a space, decodes an unknown character as " ⁇ ", and
takes U+0085 for no space and keeps a mark that follows an odd space.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtm.data.tokenizer_json import TokenizerJson
from mtm.data.vocabularies import from_directory
from mtm.data.vocabulary import Vocabulary

pytestmark = pytest.mark.parity

WORDS = (
  "the of and language model Learning trains on Text with many words isn't we'll 3.14 1,000 HTTP2 "
  "def return lambda x: self.f(x) == {'a': [1]} != #include <vector> //comment snake_case "
  "größer CAFÉ naïve Ångström cafe\u0301 Straße łódź Привет мир ελληνικά عربى עברית हिन्दी "
  "我们 在北京 学习 语言模型 日本語の 한국어 😀 🚀 👩‍👩‍👧 🏳️‍🌈 ﬁne ① ２００ "
  "… — “quoted” !? @user a+b=c"
).split()
SPACES = (" ", " ", " ", " ", "  ", "\n", "\t", "\r\n", "   \n", "\u00a0", "\u3000", "\u2003", "")
RARE = (
  "\u200b",
  "\ufeff",
  "\x00",
  "\x07",
  "\ufffd",
  "\u2028",
  "\x85",
  "\u00ad",
  "𝒳",
  "ꙮ",
  "Þ",
  "𠮷",
)


def strings(seed: int, count: int = 10_000, special: tuple[str, ...] = ()) -> Iterator[str]:
  """Words of many kinds, odd spaces between them, and now and then something rare or special."""
  draw = random.Random(seed)
  for _ in range(count):
    parts = [draw.choice(SPACES)]
    for _ in range(draw.randrange(12)):
      word = draw.choice(WORDS)
      if draw.random() < 0.1:
        word = "".join(draw.sample(word, len(word))) + draw.choice(RARE)
      if special and draw.random() < 0.1:
        word = draw.choice(special).join(draw.choices(("", " ", draw.choice(WORDS)), k=2))
      parts += [word, draw.choice(SPACES)]
    yield "".join(parts)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
  monkeypatch.setenv("MTM_CACHE", str(tmp_path / "cache"))


def agree(ours: Any, theirs: Any, texts: Iterator[str]) -> None:
  """Equal ids for every text; equal texts for them and for random ids."""
  count = 0
  silent = {ours.pad_id, ours.eos_id, ours.bos_id}  # decoding ends at these or leaves them out
  for text in texts:
    ids = theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.encode(text) == ids, repr(text)
    assert ours.framed(text) == theirs(text)["input_ids"], repr(text)
    kept = [i for i in ids if i not in silent]
    assert ours.decode(kept) == decoded(theirs, kept), repr(text)
    count += 1
  assert count == 10_000
  draw, size = random.Random(1), ours.vocab_size
  for _ in range(1_000):
    ids = [i for i in (draw.randrange(size) for _ in range(20)) if i not in silent]
    assert ours.decode(ids) == decoded(theirs, ids), ids


def decoded(theirs: Any, ids: list[int]) -> str:
  return theirs.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def word_pieces(path: Path, special: list[str], lower: bool) -> None:
  """Trains a list of tokens."""
  import tokenizers as tk

  trained = tk.Tokenizer(tk.models.WordPiece(unk_token="[UNK]"))
  trained.normalizer = tk.normalizers.BertNormalizer(lowercase=lower)
  trained.pre_tokenizer = tk.pre_tokenizers.BertPreTokenizer()
  trainer = tk.trainers.WordPieceTrainer(
    vocab_size=600, special_tokens=special, show_progress=False
  )
  trained.train_from_iterator(strings(0, 500), trainer)
  ids = trained.get_vocab()
  path.write_text("".join(f"{t}\n" for t in sorted(ids, key=ids.__getitem__)))


@pytest.mark.parametrize("lower", [True, False])
def test_bert_word_pieces(lower: bool, tmp_path: Path) -> None:
  import transformers

  word_pieces(tmp_path / "vocab.txt", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], lower)
  config = {"do_lower_case": lower, "tokenizer_class": "BertTokenizer"}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))

  ours, theirs = from_directory(tmp_path), transformers.BertTokenizer.from_pretrained(tmp_path)
  assert ours.vocab_size == len(theirs)
  assert (ours.pad_id, ours.unk_id) == (theirs.pad_token_id, theirs.unk_token_id)
  assert (ours.bos_id, ours.eos_id) == (theirs.cls_token_id, theirs.sep_token_id)
  agree(ours, theirs, strings(1, special=("[MASK]", "[UNK]")))
  saved_by_transformers_is_read_alike(ours, tmp_path)


@pytest.mark.parametrize("lower", [True, False])
def test_prophetnet_word_pieces(lower: bool, tmp_path: Path) -> None:
  import transformers

  tokens = ["[PAD]", "[X_SEP]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  word_pieces(tmp_path / "prophetnet.tokenizer", tokens, lower)
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "prophetnet"}))
  (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
  ours = from_directory(tmp_path)
  theirs = transformers.ProphetNetTokenizer.from_pretrained(tmp_path)
  assert ours.vocab_size == len(theirs)
  assert (ours.pad_id, ours.eos_id) == (theirs.pad_token_id, theirs.sep_token_id)
  agree(ours, theirs, strings(1, special=("[MASK]", "[X_SEP]")))


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_gpt2_byte_pairs(kind: str, tmp_path: Path) -> None:
  import tokenizers as tk
  import transformers

  special = {"gpt2": ["<|endoftext|>"], "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]}
  trained = tk.ByteLevelBPETokenizer()
  trained.train_from_iterator(
    strings(0, 500), vocab_size=700, special_tokens=special[kind], show_progress=False
  )
  trained.save_model(str(tmp_path))
  (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))

  cls = {"gpt2": transformers.GPT2Tokenizer, "roberta": transformers.RobertaTokenizer}[kind]
  ours, theirs = from_directory(tmp_path), cls.from_pretrained(tmp_path)
  assert ours.vocab_size == len(theirs)
  assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
  assert ours.unk_id == theirs.unk_token_id
  agree(ours, theirs, strings(2, special=tuple(special[kind][4:])))
  for text in strings(3, 500):
    counts = ours.token_bytes()
    assert counts is not None and counts[ours.encode(text)].sum() == len(text.encode())
  saved_by_transformers_is_read_alike(ours, tmp_path)


def saved_by_transformers_is_read_alike(ours: Vocabulary, folder: Path) -> None:
  """Through AutoTokenizer and its tokenizer.json."""
  import transformers

  auto = transformers.AutoTokenizer.from_pretrained(folder)
  auto.save_pretrained(folder / "saved")
  again = from_directory(folder / "saved")
  assert isinstance(again, TokenizerJson) and again.path == str(folder / "saved/tokenizer.json")
  for role in ("vocab_size", "pad_id", "eos_id", "bos_id", "unk_id"):
    assert getattr(again, role) == getattr(ours, role), role
  agree(again, auto, strings(4))


def t5(folder: Path) -> Any:
  """A directory with T5's `spiece.model`, and its tokenizer in transformers."""
  import sentencepiece
  import transformers

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=(" ".join(text.split()) for text in strings(0, 2_000)),
    model_writer=model,
    vocab_size=600,
    character_coverage=0.999,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  (folder / "spiece.model").write_bytes(model.getvalue())
  config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 100}
  (folder / "tokenizer_config.json").write_text(json.dumps(config))
  (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
  return transformers.T5Tokenizer.from_pretrained(folder)


def test_t5_sentencepiece(tmp_path: Path) -> None:
  theirs = t5(tmp_path)
  ours = from_directory(tmp_path)
  assert isinstance(ours, TokenizerJson) and ours.extra_ids == 100
  assert ours.vocab_size == len(theirs) == 700
  special = (ours.pad_id, ours.eos_id, ours.unk_id)
  assert special == (theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id) == (0, 1, 2)
  sentinels = [f"<extra_id_{i}>" for i in range(100)]
  assert theirs.convert_tokens_to_ids(sentinels) == list(range(699, 599, -1))
  agree(ours, theirs, strings(5, special=(*sentinels, *["</s>", "<pad>", "<unk>"] * 10)))


def test_t5_in_a_tokenizer_json(tmp_path: Path) -> None:
  theirs = t5(tmp_path)
  theirs.save_pretrained(tmp_path / "saved")
  ours = from_directory(tmp_path / "saved")
  assert isinstance(ours, TokenizerJson) and ours.extra_ids == 100
  assert (ours.pad_id, ours.eos_id, ours.unk_id) == (0, 1, 2)
  agree(ours, theirs, strings(6, special=tuple(f"<extra_id_{i}>" for i in range(100))))
