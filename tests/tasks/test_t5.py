"""T5's vocabulary: named by the environment, fetched, cached, or told in one sentence."""

from __future__ import annotations

import pytest

from mtm.errors import UserError
from mtm.tasks import _t5
from tests.data import tiny


def test_the_environment_names_the_vocabulary(monkeypatch):
  monkeypatch.setenv("MTM_T5_VOCABULARY", tiny.vocabulary().path)
  assert _t5.vocabulary() == tiny.vocabulary(100)


def test_a_model_with_sentinels_gets_no_more(monkeypatch, tmp_path):
  from sentencepiece import sentencepiece_model_pb2 as pb

  model = pb.ModelProto.FromString(tiny.model())
  model.pieces.add(piece="<extra_id_0>", type=pb.ModelProto.SentencePiece.USER_DEFINED)
  (tmp_path / "a.model").write_bytes(model.SerializeToString())
  monkeypatch.setenv("MTM_T5_VOCABULARY", str(tmp_path / "a.model"))
  assert _t5.vocabulary().vocab_size == 401


def test_it_is_fetched_once(monkeypatch, tmp_path):
  monkeypatch.delenv("MTM_T5_VOCABULARY", raising=False)
  monkeypatch.setenv("MTM_CACHE", str(tmp_path / "cache"))
  served = tmp_path / "served.model"
  served.write_bytes(tiny.model())
  monkeypatch.setattr(_t5, "URL", served.as_uri())
  assert _t5.vocabulary().encode("as is") == tiny.vocabulary().encode("as is")
  served.unlink()
  assert _t5.vocabulary().vocab_size == 500


def test_no_vocabulary_is_told_with_the_way_out(monkeypatch, tmp_path):
  monkeypatch.delenv("MTM_T5_VOCABULARY", raising=False)
  monkeypatch.setenv("MTM_CACHE", str(tmp_path))
  monkeypatch.setattr(_t5, "URL", (tmp_path / "nothing").as_uri())
  with pytest.raises(
    UserError, match="cannot be fetched from .*: set MTM_T5_VOCABULARY to a local"
  ):
    _t5.vocabulary()
  monkeypatch.setenv("MTM_T5_VOCABULARY", str(tmp_path / "nothing.model"))
  with pytest.raises(UserError, match="nothing.model: no such file"):
    _t5.vocabulary()


def test_a_name_that_another_library_brought_is_left_alone():
  from mtm.data import registry

  before = registry.find("lm1b")
  _t5.language("lm1b", "lm1b:1.1.0", "other")
  assert registry.find("lm1b") is before
