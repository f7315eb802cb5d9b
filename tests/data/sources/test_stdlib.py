"""The corpus on every machine: split by module, stable, and spelt losslessly."""

from __future__ import annotations

import hashlib
import inspect
import json
import subprocess
import sys
import textwrap

import pytest

from mtm.data.sources import stdlib
from mtm.errors import UserError
from tests.data import tiny


@pytest.fixture(scope="session")
def corpus() -> dict[str, dict[str, str]]:
  return {split: dict(stdlib.documents(split)) for split in stdlib.SPLITS}


def test_a_text_is_the_file(corpus):
  assert corpus["train"]["textwrap.py"] == inspect.getsource(textwrap)
  name = "json/__init__.py"
  assert corpus[stdlib.split_of(name)][name] == inspect.getsource(json)


def test_modules_are_whole_and_in_one_split(corpus):
  def modules(split):
    return {name.split("/")[0].removesuffix(".py") for name in corpus[split]}

  assert not modules("train") & modules("validation")
  assert len(modules("validation")) >= 8


def test_about_six_percent_are_held_out(corpus):
  sizes = {s: sum(len(t.encode()) for t in texts.values()) for s, texts in corpus.items()}
  assert sizes["validation"] >= 300_000
  assert 0.03 < sizes["validation"] / sum(sizes.values()) < 0.10


def test_tests_and_what_is_no_library_are_left_out(corpus):
  names = [*corpus["train"], *corpus["validation"]]
  assert names and all(name.endswith(".py") for name in names)
  folders = {part for name in names for part in name.split("/")[:-1]}
  assert not folders & {"test", "tests", "idle_test", "site-packages", "__pycache__"}
  assert not any("_sysconfigdata" in name for name in names)


def test_names_are_sorted(corpus):
  for texts in corpus.values():
    assert list(texts) == sorted(texts)


def test_the_split_of_a_module_is_the_same_in_every_process_and_version():
  expected = {"os.py": "validation", "json/decoder.py": "train", "email/a/b.py": "validation"}
  assert {name: stdlib.split_of(name) for name in expected} == expected
  # The rule itself, written out: of sha256 the first 8 bytes, modulo 100, below 6.
  digest = hashlib.sha256(b"stdlib5:email").hexdigest()
  assert int(digest[:16], 16) % 100 < 6


def test_an_unknown_split_is_told():
  with pytest.raises(UserError, match="no split 'valid'; did you mean 'validation'"):
    next(stdlib.documents("valid"))


def test_a_python_without_sources_is_told(monkeypatch, tmp_path):
  monkeypatch.setattr(stdlib.sysconfig, "get_path", lambda _: str(tmp_path))
  with pytest.raises(UserError, match="standard library's source is not at"):
    next(stdlib.documents("train"))


def test_declared_encodings_are_honoured_and_damage_is_told(monkeypatch, tmp_path):
  monkeypatch.setattr(stdlib.sysconfig, "get_path", lambda _: str(tmp_path))
  (tmp_path / "os.py").write_bytes("# -*- coding: latin-1 -*-\n# größe\r\n".encode("latin-1"))
  assert next(stdlib.documents("validation"))[1].endswith("# größe\r\n")
  (tmp_path / "os.py").write_bytes(b"x = '\xff'\n")
  with pytest.raises(UserError, match="os.py: .*damaged"):
    next(stdlib.documents("validation"))


def test_pairs_are_signatures_and_their_docstrings():
  found = {name: (signature, doc) for name, signature, doc in stdlib.pairs("validation")}
  from email.message import Message

  signature, docstring = found["email/message.py:Message.get_payload"]
  assert signature == "def get_payload(self, i=None, decode=False):"
  assert docstring == inspect.getdoc(Message.get_payload)
  assert found["email/message.py:Message"][0] == "class Message:"
  assert all(s.startswith(("def ", "async def ", "class ")) and d for s, d in found.values())


@pytest.fixture(scope="session")
def vocabulary():
  return stdlib.vocabulary()


def test_the_vocabulary_has_the_size_asked_for(vocabulary):
  assert vocabulary.vocab_size == 4096 and vocabulary.extra_ids == 100
  assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
  assert vocabulary.bos_id is None


def test_every_file_comes_back_and_its_bytes_are_counted(vocabulary, corpus):
  counts = vocabulary.token_bytes()
  tokens = size = 0
  for texts in corpus.values():
    for name, text in texts.items():
      ids = vocabulary.encode(text)
      assert vocabulary.decode(ids) == text, name
      assert counts[ids].sum() == len(text.encode()), name
      tokens, size = tokens + len(ids), size + len(text.encode())
  assert size / tokens > 2.9  # bytes a token; 3.2 on Python 3.11


def test_indentation_and_line_ends_are_pieces(vocabulary):
  assert len(vocabulary.encode("        ")) == 1
  assert len(vocabulary.encode("):\n")) == 1


def test_training_is_deterministic():
  texts = [inspect.getsource(textwrap)] * 2
  assert stdlib.train_sentencepiece(iter(texts), 400) == tiny.model()


def test_two_processes_may_make_the_vocabulary_at_once(tmp_path):
  code = (
    "from mtm.data.sources import stdlib\n"
    "stdlib._SAMPLED_CHARACTERS = 30_000\n"
    "stdlib.fingerprint = lambda: 'f'\n"
    "print(stdlib.vocabulary(500).encode('import os'))"
  )
  env = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "", "MTM_CACHE": str(tmp_path)}
  started = [
    subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
    for _ in range(2)
  ]
  said = [process.communicate()[0] for process in started]
  assert [process.returncode for process in started] == [0, 0]
  assert said[0] == said[1] != ""
  assert len(list((tmp_path / "stdlib").iterdir())) == 1


def test_impossible_sizes_are_told():
  with pytest.raises(UserError, match="no room for pieces"):
    stdlib.vocabulary(300)
  with pytest.raises(UserError, match="do not support a vocabulary of 5000 ids"):
    stdlib.train_sentencepiece(iter(["def f(x): return x"]), 5000)
