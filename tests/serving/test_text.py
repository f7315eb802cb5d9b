"""Text that streams is the text that decoding at once gives, up to a stop."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.data.vocabulary import Bytes
from mtm.serving.text import Stream

BYTES = Bytes(0)


def streamed(stream: Stream, ids: list[int]) -> list[str]:
  return [stream.add(i) for i in ids] + [stream.end()]


def test_a_character_is_given_once_it_is_whole() -> None:
  parts = streamed(Stream(BYTES.decode), BYTES.encode("aé€😀."))
  assert parts == ["a", "", "é", "", "", "€", "", "", "", "😀", ".", ""]


def test_what_never_gets_whole_is_told_at_the_end() -> None:
  decode = lambda ids: bytes(i - 3 for i in ids).decode(errors="replace")  # noqa: E731
  assert streamed(Stream(decode), [*BYTES.encode("a"), 0xE2 + 3]) == ["a", "", "\ufffd"]


def test_words_keep_the_spaces_that_a_tokenizer_drops_at_the_beginning() -> None:
  words = ["▁to", "▁be", "▁or", "▁no", "t"]
  decode = lambda ids: "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")  # noqa: E731
  assert streamed(Stream(decode), [0, 1, 2, 3, 4]) == ["to", " be", " or", " no", "t", ""]


@pytest.mark.parametrize(
  ("text", "stops", "wanted"),
  [
    ("one two three", ["two"], "one "),
    ("one two three", ["thrice", "e two"], "on"),
    ("aaab", ["aab"], "a"),
    ("abcab", ["abx"], "abcab"),
    ("end", ["end"], ""),
    ("one\n\nUser: x", ["\nUser:"], "one\n"),
    ("none", [""], "none"),
  ],
)
def test_a_stop_ends_the_text_before_it(text: str, stops: list[str], wanted: str) -> None:
  stream = Stream(BYTES.decode, stops)
  given = ""
  for i in BYTES.encode(text):
    given += stream.add(i)
    assert wanted.startswith(given)  # nothing is taken back
  assert given + stream.end() == wanted
  assert stream.stopped == (wanted != text)


def test_random_texts_stream_as_they_are() -> None:
  rng = np.random.default_rng(0)
  for _ in range(50):
    text = "".join(rng.choice(list("abé€😀 \n"), 20))
    assert (
      "".join(streamed(Stream(BYTES.decode, ["zz", "a a"]), BYTES.encode(text)))
      == (text.split("a a")[0])
    )
