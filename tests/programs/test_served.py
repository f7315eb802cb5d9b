"""A checkpoint that is served answers as `mtm.load(...).generate` does."""

from __future__ import annotations

import dataclasses
import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tokenizers as tk

import mtm
from mtm.decoding.sample import Sample
from mtm.errors import UserError
from mtm.programs import served
from mtm.serving.asked import Asked
from mtm.serving.engine import Prompt
from mtm.serving.service import Service
from mtm.sharding.mesh import mesh
from tests.families import recorded
from tests.serving.test_engine import served as staggered

WORDS = [
  "<s>",
  "</s>",
  "<unk>",
  "<pad>",
  "User",
  "Assistant",
  ":",
  *(f"w{i}" for i in range(7, 37)),
]
TEMPLATE = (
  "{{ bos_token }}{% for m in messages %}{{ m.role.title() }} : {{ m.content }} </s> {% endfor %}"
  "Assistant :"
)


def one_device() -> Any:
  return mesh(data=1, devices=jax.devices()[:1])


def directory(name: str, folder: Path) -> Path:
  """A recorded model with a tokenizer of words."""
  folder = recorded.directory(name, folder)
  ids = {word: i for i, word in enumerate(WORDS)}
  backend = tk.Tokenizer(tk.models.WordLevel(ids, "<unk>"))
  backend.pre_tokenizer = tk.pre_tokenizers.WhitespaceSplit()
  backend.add_special_tokens(WORDS[:4])
  backend.post_processor = tk.processors.TemplateProcessing(
    single=["<s>", "$A"] if name == "llama" else ["$A", "</s>"],
    special_tokens=[("<s>", 0), ("</s>", 1)],
  )
  backend.save(str(folder / "tokenizer.json"))
  told = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
  if name == "llama":
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
  return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Service]]:
  folder = directory("llama", tmp_path_factory.mktemp("served") / "tiny")
  service = served.service(folder, slots=2, max_length=24, mesh=one_device())
  yield folder, service
  service.scheduler.close()


def answers(service: Service, asked: Asked) -> list[str]:
  """The texts that a request gets."""
  told: queue.Queue[Any] = queue.Queue()
  jobs = service.jobs(asked, service.prompts(asked), lambda *piece: told.put(piece))
  texts, left = [""] * len(jobs), len(jobs)
  service.scheduler.submit(jobs)
  while left:
    index, piece = told.get(timeout=60)
    texts[index] += piece.text
    left -= piece.finish is not None
  return texts


def test_texts_are_those_of_generate(llama: tuple[Path, Service]) -> None:
  folder, service = llama
  assert service.name == "tiny" and service.engine.columns == 24
  prompts = ["w9 w20 w31", "w8", "w30 w11 w12 w13 w14 w15 w16"]
  handle = mtm.load(folder, one_device())
  asked = Asked(prompts=prompts, temperature=0.0, max_tokens=8)
  greedy = answers(service, asked)
  assert greedy == handle.generate(prompts, 8) and all(greedy)


def test_a_conversation_is_read_by_the_template_with_one_begin(
  llama: tuple[Path, Service],
) -> None:
  service = llama[1]
  ids = service.encode_turns([{"role": "user", "content": "w9 w10"}])
  begin = [] if service.engine.begin_id is None else [service.engine.begin_id]
  assert [*begin, *ids] == [0, 4, 6, 9, 10, 1, 5, 6]
  assert service.encode("w9 w10")[-2:] == [9, 10] and service.stops == ()


def test_what_cannot_be_served_is_told(
  llama: tuple[Path, Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  folder = llama[0]
  with pytest.raises(UserError, match="slots = 0: give at least 1"):
    served.service(folder, slots=0)
  with pytest.raises(UserError, match="max_length = 1: give the model at least 2"):
    served.service(folder, max_length=1)
  with pytest.raises(UserError, match="has no tokenizer"):
    served.service(recorded.directory("gpt2", tmp_path / "plain"))
  monkeypatch.setattr("jax.process_count", lambda: 2)
  with pytest.raises(UserError, match="2 processes would have to serve one model together"):
    served.service(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["bart", "bloom", "led", "longt5_global", "mixtral_window", "prophetnet", "switch"]
)
def test_families_that_keep_other_memories_are_served_alike(name: str, tmp_path: Path) -> None:
  handle = mtm.load(recorded.directory(name, tmp_path / "hf"), one_device())
  engine = served.engine(handle, 2, 20)
  rng, end = np.random.default_rng(0), [handle.eos_id] if engine.reads_encoder else []
  prompts = [[*rng.integers(4, 30, count).tolist(), *end] for count in (3, 9, 1, 6)]
  endless = dataclasses.replace(handle, eos_id=None)
  found = staggered(engine, [Prompt(ids, 7) for ids in prompts])
  assert found == endless.generate(prompts, 7)


@pytest.mark.slow
def test_samples_are_those_of_generate_with_the_same_seed(llama: tuple[Path, Service]) -> None:
  folder, service = llama
  policy, prompts = Sample(temperature=1.3, top_p=0.9, num_samples=2), ["w9 w20 w31", "w8"]
  asked = Asked(prompts=prompts, temperature=1.3, top_p=0.9, seed=-5, n=2, max_tokens=8)
  handle = mtm.load(folder, one_device())
  assert answers(service, asked) == sum(handle.generate(prompts, 8, policy, seed=-5), [])


@pytest.mark.slow
def test_a_pair_answers_the_last_message(tmp_path: Path) -> None:
  folder = directory("t5_1_0", tmp_path / "pair")
  service = served.service(folder, slots=3, max_length=32)  # on all devices
  try:
    talk = [{"role": "user", "content": text} for text in ("w7", "w9 w20 w31")]
    assert service.encode_turns(talk) == [9, 20, 31, 1]
    asked = Asked(messages=talk, temperature=0.0, max_tokens=6, n=2)
    assert answers(service, asked) == mtm.load(folder).generate(["w9 w20 w31"], 6) * 2
  finally:
    service.scheduler.close()
