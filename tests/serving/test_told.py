"""What the forms of the API hold; OpenAI's client reads them in `test_http`."""

from __future__ import annotations

import json

from mtm.serving.asked import Asked
from mtm.serving.scheduler import Piece
from mtm.serving.told import Answer, Chat, Completion, usage
from tests.serving.fakes import BYTES


def test_forms_are_json_and_streams_add_up_to_the_whole() -> None:
  pieces = [Piece("", 198, -1.0), Piece("é", 172, -2.0), Piece("b", 101, -0.5, (), "stop")]
  completion = Completion(Asked(top=0, n=2), "m", BYTES.decode, ["a", "b"])
  answer, texts, offsets = Answer(), [], []
  for piece in pieces:
    answer.add(piece)
    told = completion.part(3, piece, answer)
    texts.append(told["text"])
    offsets += told["logprobs"]["text_offset"]
  whole = completion.whole(3, answer)
  assert whole["text"] == "b" + "".join(texts) == "béb" and whole["finish_reason"] == "stop"
  assert whole["logprobs"]["token_logprobs"] == [-1.0, -2.0, -0.5] and offsets == [0, 0, 1]
  chat = Chat(Asked(), "m", BYTES.decode)
  assert chat.whole(0, answer)["message"] == {"role": "assistant", "content": "éb"}
  assert chat.part(0, Piece(finish="stop"), answer)["delta"] == {}
  json.dumps([whole, chat.head(True), chat.begins(0), completion.begins(0), usage([[1, 2]], 3)])
  assert usage([[1, 2], [3]], 4)["total_tokens"] == 7
