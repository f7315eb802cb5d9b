"""Vocabularies: lossless, equal to SeqIO's, saved whole, and plain about what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mtm.data import vocabulary as V
from mtm.data._tensorflow import seqio
from mtm.errors import UserError
from tests.data import tiny

TEXTS = [
  "",
  "def f(x):\n    return x  # two  blanks\n",
  "\ttabs\t\tand\r\nDOS lines \r\n\r\n",
  "  leading, trailing   ",
  "größer, 漢字, \U0001f600, \x00 and \ufeff",
  "1234567890 0x7f",
]


@pytest.mark.parametrize("text", TEXTS)
def test_sentencepiece_gives_every_text_back(text):
  vocabulary = tiny.vocabulary()
  assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize("text", [*TEXTS, "the library's own ▁ mark"])
@pytest.mark.parametrize("make", [tiny.vocabulary, V.Bytes])
def test_token_bytes_add_up_to_the_text(make, text):
  vocabulary = make()
  assert vocabulary.token_bytes()[vocabulary.encode(text)].sum() == len(text.encode())


def test_token_bytes_are_those_of_each_piece_decoded():
  vocabulary = tiny.vocabulary()
  counts = vocabulary.token_bytes()
  assert counts.dtype == np.int32 and counts.shape == (vocabulary.vocab_size,) == (500,)
  assert not counts[:3].any() and not counts[-100:].any()
  assert (counts[3:259] == 1).all()  # byte fallback
  for i in range(259, 400):
    assert counts[i] == len(vocabulary.decode([i]).encode())


def test_token_bytes_may_be_changed_by_its_reader():
  tiny.vocabulary().token_bytes()[:] = 7
  assert tiny.vocabulary().token_bytes()[0] == 0


def test_ids_are_seqios_in_python_and_in_tensorflow():
  ours = tiny.vocabulary()
  theirs = ours.to_seqio()
  for text in [*TEXTS, " <extra_id_0> and  <extra_id_99>"]:
    assert ours.encode(text) == list(theirs.encode(text))
    assert ours.encode(text) == theirs.encode_tf(text).numpy().tolist()
    ids = ours.encode(text)
    assert ours.decode(ids) == theirs.decode(ids)
  assert ours.vocab_size == theirs.vocab_size
  assert (ours.pad_id, ours.eos_id, ours.unk_id) == (theirs.pad_id, theirs.eos_id, theirs.unk_id)


def test_the_last_id_is_the_first_sentinel():
  vocabulary = tiny.vocabulary()
  assert vocabulary.decode([vocabulary.vocab_size - 1]).strip() == "<extra_id_0>"
  assert vocabulary.decode([vocabulary.vocab_size - 100]).strip() == "<extra_id_99>"


def test_decoding_ends_at_the_end_and_skips_padding():
  vocabulary = tiny.vocabulary()
  ids = vocabulary.encode("as is")
  assert vocabulary.decode([*ids, 0, 0]) == "as is"
  assert vocabulary.decode([*ids, vocabulary.eos_id, *ids]) == "as is"
  assert vocabulary.decode(np.array(ids, np.int32)) == "as is"


def test_an_id_beyond_the_vocabulary_decodes_as_unknown():
  vocabulary = tiny.vocabulary()
  assert vocabulary.decode([10**6]) == vocabulary.decode([vocabulary.unk_id])


@pytest.mark.parametrize(
  ("vocabulary", "ids"), [(V.Numbers(9, eos_id=1), [3, 4, 1]), (V.Numbers(9), [3, 4])]
)
def test_a_sequence_is_terminated_where_the_vocabulary_has_an_end(vocabulary, ids):
  assert V.terminated(vocabulary, "3 4") == ids
  assert V.terminated(vocabulary, "") == ids[2:]
  assert vocabulary.decode([*ids, 5]) == ("3 4" if vocabulary.eos_id else "3 4 5")


def test_a_model_without_an_end_terminates_nothing(tmp_path):
  from sentencepiece import sentencepiece_model_pb2 as pb

  model = pb.ModelProto.FromString(tiny.model())
  model.trainer_spec.eos_id = -1
  model.pieces[1].type = pb.ModelProto.SentencePiece.UNUSED
  model.pieces[1].piece = "<unused>"
  path = tmp_path / "endless.model"
  path.write_bytes(model.SerializeToString())
  vocabulary = V.SentencePiece(str(path))
  assert vocabulary.eos_id is None
  assert V.terminated(vocabulary, "as is") == vocabulary.encode("as is") != []
  assert V.terminated(tiny.vocabulary(), "as is") == [*vocabulary.encode("as is"), 1]


def test_absent_ids_are_none():
  assert tiny.vocabulary().bos_id is None


@pytest.mark.parametrize("extra_ids", [0, 125])
def test_bytes_are_seqios_byte_vocabulary(extra_ids):
  ours, theirs = V.Bytes(extra_ids), seqio().ByteVocabulary(extra_ids)
  assert ours.vocab_size == theirs.vocab_size
  assert (ours.eos_id, ours.unk_id, ours.pad_id) == (theirs.eos_id, theirs.unk_id, theirs.pad_id)
  for text in TEXTS:
    assert ours.encode(text) == list(theirs.encode(text))
  for ids in ([75, 2, 0, 76], [75, 1, 76], [198, 75], [260, 75]):  # special, end, broken, sentinel
    assert ours.decode(ids) == theirs.decode(ids)


def test_numbers_stand_for_themselves():
  vocabulary = V.Numbers(10, eos_id=1)
  assert vocabulary.encode("3 4 9") == [3, 4, 9]
  assert vocabulary.decode([3, 4, 1, 9]) == "3 4"
  assert vocabulary.token_bytes() is None
  with pytest.raises(UserError, match="id 10 is outside"):
    vocabulary.encode("10")
  with pytest.raises(UserError, match="decimal"):
    vocabulary.encode("a")


@pytest.mark.parametrize("make", [tiny.vocabulary, lambda: V.Bytes(7), lambda: V.Numbers(9, 1)])
def test_what_is_saved_loads_alike_from_another_place(make, tmp_path):
  vocabulary = make()
  vocabulary.save(tmp_path / "here" / "vocabulary")
  vocabulary.save(tmp_path / "here" / "vocabulary")  # once more does no harm
  shutil.move(tmp_path / "here", tmp_path / "there")
  loaded = V.load(tmp_path / "there" / "vocabulary")
  assert type(loaded) is type(vocabulary)
  assert loaded.vocab_size == vocabulary.vocab_size
  assert loaded.extra_ids == vocabulary.extra_ids
  assert loaded.encode("3 4") == vocabulary.encode("3 4")
  loaded.save(tmp_path / "there" / "vocabulary")  # over itself
  assert V.load(tmp_path / "there" / "vocabulary") == loaded


def test_loading_tells_what_is_wrong(tmp_path):
  with pytest.raises(UserError, match="no vocabulary is saved here"):
    V.load(tmp_path)
  told = tmp_path / "vocabulary.json"
  told.write_text("{")
  with pytest.raises(UserError, match="vocabulary.json: damaged"):
    V.load(tmp_path)
  for content in ({"class": "no.such:Class"}, {"class": "mtm.data.vocabulary:Nothing"}, {}):
    told.write_text(json.dumps(content))
    with pytest.raises(UserError, match="names no class"):
      V.load(tmp_path)


def test_a_missing_model_is_told_with_its_neighbour(tmp_path):
  (tmp_path / "spiece.model").write_bytes(b"")
  with pytest.raises(UserError, match=r"no such file; did you mean 'spiece.model'\?"):
    V.SentencePiece(str(tmp_path / "spice.model")).encode("a")


def test_a_damaged_model_is_told(tmp_path):
  path = tmp_path / "broken.model"
  path.write_bytes(tiny.model()[: len(tiny.model()) // 2])
  with pytest.raises(UserError, match="broken.model: not a SentencePiece model"):
    V.SentencePiece(str(path)).encode("a")
  with pytest.raises(UserError, match="broken.model: not a SentencePiece model"):
    V.SentencePiece(str(path)).to_seqio()


@pytest.mark.parametrize("make", [tiny.vocabulary, lambda: V.Bytes(7), lambda: V.Numbers(9, 1)])
def test_seqio_and_back_is_the_same(make):
  assert V.from_seqio(make().to_seqio()) == make()


def test_a_normaliser_override_survives_the_way_from_seqio(tmp_path, monkeypatch):
  from sentencepiece import sentencepiece_model_pb2 as pb

  monkeypatch.setenv("MTM_CACHE", str(tmp_path))
  override = pb.NormalizerSpec(add_dummy_prefix=True)
  theirs = seqio().SentencePieceVocabulary(tiny.vocabulary().path, 3, override)
  ours = V.from_seqio(theirs)
  assert ours.encode("as is") == list(theirs.encode("as is"))
  assert ours.encode("as is") != tiny.vocabulary().encode("as is")
  assert ours.vocab_size == theirs.vocab_size
  assert ours.token_bytes()[-3:].tolist() == [0, 0, 0]


def test_a_vocabulary_without_twin_is_refused():
  with pytest.raises(UserError, match="FullCodepointVocabulary has no TensorFlow-free twin"):
    V.from_seqio(seqio().FullCodepointVocabulary())


def test_sentinels_of_the_model_itself_are_seen():
  from sentencepiece import sentencepiece_model_pb2 as pb

  assert not V.has_sentinels(tiny.vocabulary().path)
  model = pb.ModelProto.FromString(tiny.model())
  model.pieces.add(piece="<extra_id_0>", type=pb.ModelProto.SentencePiece.USER_DEFINED)
  path = tiny.vocabulary().path + ".extra"
  with open(path, "wb") as file:
    file.write(model.SerializeToString())
  assert V.has_sentinels(path)
  assert V.SentencePiece(path).token_bytes()[-1] == 0


def test_modules_of_data_are_imported_without_tensorflow():
  modules = [
    f"mtm.data.{name}"
    for name in ("vocabulary", "lazy_vocabulary", "store", "registry", "evaluator", "show")
  ]
  modules += [f"mtm.data.sources.{name}" for name in ("stdlib", "files", "_records")]
  modules += [f"mtm.tasks.{name}" for name in ("_t5", "_metrics", "c4", "glue", "stdlib", "wmt")]
  code = f"import sys, {', '.join(modules)}; print({{'tensorflow', 'seqio'}} & set(sys.modules))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "set()"
