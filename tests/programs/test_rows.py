import json

import pytest

from mtm.errors import UserError
from mtm.programs.rows import Printed, Rows


def test_rows_are_json_lines_in_order(tmp_path):
  rows = Rows(tmp_path / "out", {"a": 1}, (0, 1))
  for n in range(3):
    rows.write({"n": n, "text": "ä\n"})
  rows.close()
  lines = (tmp_path / "out" / "rows-00000-of-00001.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in lines] == [{"n": n, "text": "ä\n"} for n in range(3)]


def test_the_same_request_goes_on_after_the_last_whole_row(tmp_path):
  rows = Rows(tmp_path, {"a": 1}, (1, 2))
  rows.write({"n": 0})
  rows.close()
  with open(rows.path, "ab") as file:
    file.write(b'{"n": 1')  # the process was killed here
  again = Rows(tmp_path, {"a": 1}, (1, 2))
  assert again.done == 1
  again.write({"n": 1})
  again.close()
  assert rows.path.read_text() == '{"n": 0}\n{"n": 1}\n'


def test_another_request_in_the_same_directory_is_refused(tmp_path):
  Rows(tmp_path, {"a": 1, "b": 2}, (0, 1)).close()
  with pytest.raises(UserError, match="b was 2 and is 3"):
    Rows(tmp_path, {"a": 1, "b": 3}, (0, 1))


def test_a_directory_that_is_a_file_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write"):
    Rows(tmp_path / "file", {}, (0, 1))


def test_printed_rows_are_json_lines(capsys):
  printed = Printed()
  printed.write({"text": "é"})
  printed.close()
  assert capsys.readouterr().out == '{"text": "é"}\n'
