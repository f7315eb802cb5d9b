"""Lines of text, and what is wrong with them by file and line."""

from __future__ import annotations

import gzip
import io
import sys
import types

import pytest

from mtm.data.sources import _text
from mtm.errors import UserError


def test_lines_are_numbered_and_cut_at_newlines_only(tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes("one\r\ntwo\u2028still two\n\nfour".encode())
  assert list(_text.lines(path)) == [(1, "one"), (2, "two\u2028still two"), (3, ""), (4, "four")]


def test_a_byte_order_mark_is_dropped(tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes(b"\xef\xbb\xbfone\n")
  assert list(_text.lines(path)) == [(1, "one")]
  assert _text.whole(path) == "one\n"


def test_gzip_is_unpacked(tmp_path):
  path = tmp_path / "a.txt.gz"
  path.write_bytes(gzip.compress(b"one\ntwo\n"))
  assert list(_text.lines(path)) == [(1, "one"), (2, "two")]
  assert _text.whole(path) == "one\ntwo\n"


def test_a_truncated_gzip_file_is_told(tmp_path):
  path = tmp_path / "a.gz"
  for content in (gzip.compress(b"one\n" * 1000)[:-9], b"no gzip at all"):
    path.write_bytes(content)
    for read in (lambda: list(_text.lines(path)), lambda: _text.whole(path)):
      with pytest.raises(UserError, match="a.gz: damaged gzip file"):
        read()


def test_what_is_not_utf8_is_told_with_line_and_byte(tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes(b"ok\n\xc3\xa4 Gr\xfc\xdfe\n")
  with pytest.raises(UserError, match=r"a.txt:2: byte 8 of the file is 0xfc, which is not UTF-8"):
    list(_text.lines(path))
  with pytest.raises(UserError, match=r"byte 8 of the file is 0xfc"):
    _text.whole(path)


def test_a_missing_file_is_told_with_its_neighbour(tmp_path, monkeypatch):
  (tmp_path / "train.jsonl").write_text("")
  with pytest.raises(UserError, match=r"trian.jsonl: no such file; did you mean 'train.jsonl'\?"):
    list(_text.lines(tmp_path / "trian.jsonl"))
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=f"no such file in {tmp_path}; did you mean"):
    list(_text.lines("trian.jsonl"))
  with pytest.raises(UserError, match="no such file"):
    list(_text.lines(tmp_path / "no" / "where"))


def test_a_directory_is_told(tmp_path):
  with pytest.raises(UserError, match="cannot be read"):
    list(_text.lines(tmp_path))


def test_a_dash_is_standard_input(monkeypatch):
  monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"one\ntwo")))
  assert list(_text.lines("-")) == [(1, "one"), (2, "two")]
