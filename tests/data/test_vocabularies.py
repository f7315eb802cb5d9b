"""The vocabulary of a checkpoint's directory: the right class, the right ids, or a plain error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tokenizers as tk

from mtm.data import vocabulary as V
from mtm.data.tokenizer_json import TokenizerJson
from mtm.data.vocabularies import from_directory
from mtm.errors import UserError
from tests.data import tiny

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "Hello", "wor", "##ld", "!", "漢"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
  monkeypatch.setenv("MTM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
  (tmp_path / "checkpoint").mkdir()
  return tmp_path / "checkpoint"


def tell(folder: Path, name: str, **told: object) -> None:
  (folder / f"{name}.json").write_text(json.dumps(told))


def bpe(folder: Path, *more: str) -> None:
  """GPT-2's two files: all bytes, one merge, and then `more`."""
  tokens = [*sorted(tk.pre_tokenizers.ByteLevel.alphabet()), "he", *more]
  (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
  (folder / "merges.txt").write_text("#version: 0.2\nh e\n")


def test_word_pieces_are_berts(folder):
  (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
  v = from_directory(folder)
  assert v.encode("Hello world!漢漢 [MASK]x") == [5, 7, 8, 9, 10, 10, 4, 1]
  assert v.framed("Hello") == [2, 5, 3]
  assert (v.pad_id, v.eos_id, v.bos_id, v.unk_id, v.vocab_size) == (0, 3, 2, 1, 11)
  assert v.decode([2, 5, 7, 8, 3, 0, 0]) == "hello world"
  assert v.token_bytes() is None


def test_word_pieces_keep_case_where_the_configuration_says_so(folder):
  (folder / "vocab.txt").write_text("\n".join(WORDS))
  tell(folder, "tokenizer_config", do_lower_case=False, tokenizer_class="BertTokenizer")
  assert from_directory(folder).encode("Hello hello") == [6, 5]


def test_word_pieces_of_prophetnet_begin_with_the_text_and_part_sentences(folder):
  (folder / "prophetnet.tokenizer").write_text("\n".join([*WORDS, "[X_SEP]"]) + "\n")
  tell(folder, "config", model_type="prophetnet")
  v = from_directory(folder)
  assert v.framed("Hello [X_SEP] world") == [5, 11, 7, 8, 3]
  assert (v.pad_id, v.eos_id, v.unk_id, v.vocab_size) == (0, 3, 1, 12)


def test_byte_pairs_are_gpt2s(folder):
  bpe(folder, "<|endoftext|>")
  v = from_directory(folder)
  assert v.decode(v.encode("he 漢\n")) == "he 漢\n" and v.encode("he") == [256]
  assert (v.pad_id, v.eos_id, v.bos_id, v.vocab_size) == (257, 257, 257, 258)
  assert v.token_bytes()[[256, 257]].tolist() == [2, 0]
  assert v.framed("he") == [256]
  tell(folder, "tokenizer_config", tokenizer_class="GPT2Tokenizer", add_bos_token=True)
  assert from_directory(folder).framed("he") == [257, 256]  # as OPT has it


def test_byte_pairs_of_roberta_have_its_special_tokens(folder):
  bpe(folder, "<s>", "<pad>", "</s>", "<unk>", "<mask>")
  tell(folder, "config", model_type="roberta")
  tell(folder, "tokenizer_config", mask_token={"content": "<mask>", "lstrip": True})
  v = from_directory(folder)
  assert (v.bos_id, v.pad_id, v.eos_id, v.unk_id, v.vocab_size) == (257, 258, 259, 260, 262)
  assert v.encode("he <mask>") == [256, 261]
  assert v.framed("he") == [257, 256, 259]


@pytest.mark.parametrize(
  ("name", "told"),
  [
    ("added_tokens", {"<pad>": 258}),
    ("tokenizer_config", {"added_tokens_decoder": {"258": {"content": "<pad>", "special": True}}}),
  ],
)
def test_added_tokens_have_their_ids(name, told, folder):
  bpe(folder, "<|endoftext|>")
  tell(folder, name, **told)
  tell(folder, "special_tokens_map", pad_token="<pad>")
  v = from_directory(folder)
  assert (v.pad_id, v.vocab_size) == (258, 259) and v.encode("he<pad>") == [256, 258]
  tell(folder, "added_tokens", **{"<elsewhere>": 300})
  with pytest.raises(UserError, match="'<elsewhere>' cannot get its id 300"):
    from_directory(folder)


def test_what_was_built_is_saved_like_any_other(folder, tmp_path):
  bpe(folder, "<|endoftext|>")
  built = from_directory(folder)
  built.save(tmp_path / "saved")
  shutil.rmtree(tmp_path / "cache")
  assert V.load(tmp_path / "saved").encode("hehe") == [256, 256]


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.model"])
def test_a_sentencepiece_model_is_read(name, folder):
  (folder / name).write_bytes(tiny.model())
  assert from_directory(folder) == V.SentencePiece(str(folder / name), 0)


@pytest.mark.parametrize(
  ("told", "extra"),
  [
    ({}, 100),
    ({"extra_ids": 7}, 7),
    ({"additional_special_tokens": ["<extra_id_0>", {"content": "<extra_id_1>"}]}, 2),
    ({"added_tokens_decoder": {"1": {"content": "</s>"}, "400": {"content": "<extra_id_0>"}}}, 1),
  ],
)
def test_t5s_sentinels_lie_on_top(told, extra, folder):
  (folder / "spiece.model").write_bytes(tiny.model())
  tell(folder, "config", model_type="t5")
  tell(folder, "tokenizer_config", tokenizer_class="T5Tokenizer", **told)
  v = from_directory(folder)
  assert (v.extra_ids, v.vocab_size) == (extra, 400 + extra)
  last = v.vocab_size - 1
  assert v.encode("a <extra_id_0>")[-1] == last
  (a,) = v.encode("a")
  assert v.encode("a<extra_id_0>a</s>") == [a, last, a, v.eos_id]
  assert v.framed("a") == [a, v.eos_id] and v.decode([a, last, 1, a]) == "a<extra_id_0>"


def test_a_t5_that_is_no_unigram_is_run_by_its_library(folder):
  from sentencepiece import sentencepiece_model_pb2 as pb

  model = pb.ModelProto.FromString(tiny.model())
  model.trainer_spec.model_type = pb.TrainerSpec.BPE
  (folder / "spiece.model").write_bytes(model.SerializeToString())
  tell(folder, "config", model_type="t5")
  assert from_directory(folder) == V.SentencePiece(str(folder / "spiece.model"), 100)


def test_llamas_texts_begin_with_its_begin(folder, tmp_path):
  from sentencepiece import sentencepiece_model_pb2 as pb

  model = pb.ModelProto.FromString(tiny.model())
  model.trainer_spec.bos_id, model.trainer_spec.bos_piece = 400, "<s>"
  model.pieces.add(piece="<s>", type=pb.ModelProto.SentencePiece.CONTROL)
  (folder / "tokenizer.model").write_bytes(model.SerializeToString())
  tell(folder, "config", model_type="llama")
  v = from_directory(folder)
  assert v.bos_id == 400 and v.framed("a") == [400, *v.encode("a")]
  v.save(tmp_path / "saved")
  assert V.load(tmp_path / "saved").framed("a") == v.framed("a")
  tell(folder, "tokenizer_config", add_bos_token=False)
  assert not hasattr(from_directory(folder), "framed")


def test_a_model_that_holds_its_sentinels_gets_no_more(folder):
  from sentencepiece import sentencepiece_model_pb2 as pb

  model = pb.ModelProto.FromString(tiny.model())
  model.pieces.add(piece="▁<extra_id_0>", type=pb.ModelProto.SentencePiece.USER_DEFINED)
  (folder / "spiece.model").write_bytes(model.SerializeToString())
  tell(folder, "config", model_type="t5")
  assert (from_directory(folder).extra_ids, from_directory(folder).vocab_size) == (0, 401)


def test_tokens_that_a_sentencepiece_model_numbers_otherwise_are_told(folder):
  (folder / "tokenizer.model").write_bytes(tiny.model())
  tell(folder, "added_tokens", **{"[PAD]": 400})
  with pytest.raises(UserError, match=r"'\[PAD\]' has id 400 elsewhere.*write a tokenizer.json"):
    from_directory(folder)


def test_a_tokenizer_json_comes_first(folder):
  bpe(folder, "<|endoftext|>")
  shutil.copy(from_directory(folder).path, folder / "tokenizer.json")
  (folder / "spiece.model").write_bytes(b"not looked at")
  tell(folder, "config", model_type="anything", eos_token_id=257)
  v = from_directory(folder)
  assert v == TokenizerJson(str(folder / "tokenizer.json"), 257, 257)


def test_byt5_needs_no_file(folder):
  tell(folder, "tokenizer_config", tokenizer_class="ByT5Tokenizer")
  tell(folder, "config", model_type="t5")
  assert from_directory(folder) == V.Bytes(125)


@pytest.mark.parametrize(
  ("file", "kind"),
  [
    ("spiece.model", "xlnet"),
    ("sentencepiece.bpe.model", "xlm-roberta"),
    ("sentencepiece.bpe.model", ""),
    ("tokenizer.model", "pegasus"),
    ("vocab.txt", "phobert"),
  ],
)
def test_a_kind_that_numbers_in_its_own_way_is_refused(file, kind, folder):
  (folder / file).write_bytes(tiny.model())
  tell(folder, "config", model_type=kind)
  with pytest.raises(UserError, match="its? .*own way; write a tokenizer.json there with"):
    from_directory(folder)


def test_an_absent_or_empty_directory_is_told(folder):
  with pytest.raises(UserError, match="nowhere: no such directory"):
    from_directory(folder / "nowhere")
  with pytest.raises(UserError, match="looked for tokenizer.json, spiece.model,.*vocab.json with"):
    from_directory(folder)


def test_damaged_files_are_told(folder):
  (folder / "vocab.txt").write_bytes(b"[UNK]\n\xff\n")
  with pytest.raises(UserError, match="vocab.txt: damaged"):
    from_directory(folder)
  (folder / "vocab.txt").write_text("<html>")
  with pytest.raises(
    UserError, match=r"vocab.txt: no WordPiece vocabulary, for \[UNK\] is missing"
  ):
    from_directory(folder)
  (folder / "vocab.txt").unlink()
  bpe(folder)
  (folder / "merges.txt").write_text("h e x y\n")
  with pytest.raises(UserError, match="merges.txt: damaged"):
    from_directory(folder)
  (folder / "vocab.json").write_text('{"a": ')
  with pytest.raises(UserError, match="vocab.json: damaged"):
    from_directory(folder)
  (folder / "spiece.model").write_bytes(tiny.model()[:500])
  with pytest.raises(UserError, match="spiece.model: not a SentencePiece model"):
    from_directory(folder)
