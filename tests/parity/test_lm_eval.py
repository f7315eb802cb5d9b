"""Our lm_eval model against lm_eval's own HuggingFace backend, on the same tiny checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("lm_eval")
import lm_eval  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.registry import get_model  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from mtm.decoding.greedy import Greedy  # noqa: E402
from mtm.decoding.sample import Sample  # noqa: E402
from mtm.errors import UserError  # noqa: E402
from mtm.evaluation.lm_eval import MTM  # noqa: E402
from mtm.programs import harness  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

TEXT = "the quick brown fox jumps over a lazy dog and runs far away, but the dog sleeps on. yes no"
PLACES = 48
REQUESTS = [
  ("the quick brown", " fox"),
  ("the quick brown", " dog sleeps"),
  ("the quick brown", " fox jumps over"),
  ("the lazy dog ", "runs away"),
  ("", "the dog"),
  ("", "a lazy fox, but no dog"),
  ("yes", " no no no"),
  ("the fox\n", "the dog"),
  (" ".join(TEXT.split() * 6), " and no"),
]


def tokenizer(kind: str) -> Any:
  """Byte-level BPE as GPT-2 has it, or words as T5 has them with an end after a text."""
  import tokenizers as tk

  if kind == "gpt2":
    backend = tk.Tokenizer(tk.models.BPE())
    backend.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tk.decoders.ByteLevel()
    trainer = tk.trainers.BpeTrainer(
      vocab_size=330, special_tokens=["<|endoftext|>"], show_progress=False,
      initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator([TEXT] * 4, trainer)
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)
  backend = tk.Tokenizer(tk.models.Unigram())
  backend.pre_tokenizer = tk.pre_tokenizers.Metaspace()
  backend.decoder = tk.decoders.Metaspace()
  trainer = tk.trainers.UnigramTrainer(
    vocab_size=70, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>",
    show_progress=False,
  )  # fmt: skip
  backend.train_from_iterator([TEXT] * 4, trainer)
  backend.post_processor = tk.processors.TemplateProcessing(
    single="$A </s>", special_tokens=[("</s>", 1)]
  )
  names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
  return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def model(kind: str, vocab: int) -> Any:
  if kind == "gpt2":
    config = transformers.GPT2Config(
      vocab_size=vocab, n_positions=PLACES, n_embd=24, n_head=3, n_layer=2, bos_token_id=0,
      eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)
  config = transformers.T5Config(
    vocab_size=vocab, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3,
    decoder_start_token_id=0,
  )  # fmt: skip
  return transformers.T5ForConditionalGeneration(config)


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def both(request: Any, tmp_path_factory: Any) -> tuple[Any, Any, str]:
  """Ours, theirs, and the directory of the checkpoint."""
  folder = tmp_path_factory.mktemp(request.param)
  words = tokenizer(request.param)
  words.save_pretrained(folder)
  torch.manual_seed(0)
  theirs = model(request.param, len(words)).eval()
  with torch.no_grad():
    for parameter in theirs.parameters():
      # No more: T5 scores without a scale, and float32 rounding would grow to the tolerance.
      parameter += 0.2 * torch.randn(parameter.shape)
  theirs.save_pretrained(folder)
  path = str(folder)
  return MTM(path, batch_size=4), HFLM(path, batch_size=3, device="cpu", dtype="float32"), path


def instances(kind: str, every: list[tuple[Any, ...]]) -> list[Instance]:
  return [Instance(kind, {}, args, number) for number, args in enumerate(every)]


def test_log_likelihoods_and_greedy_flags_are_theirs(both: tuple[Any, Any, str]) -> None:
  ours, theirs, _ = both
  asked = instances("loglikelihood", REQUESTS)
  got, expected = (lm.loglikelihood(asked, disable_tqdm=True) for lm in (ours, theirs))
  np.testing.assert_allclose([x for x, _ in got], [x for x, _ in expected], atol=1e-4)
  assert [greedy for _, greedy in got] == [greedy for _, greedy in expected]


def test_one_token_of_all_is_greedy_and_the_same_for_both(both: tuple[Any, Any, str]) -> None:
  ours, theirs, _ = both
  for text in ("the dog", "yes, no"):
    context = theirs.tok_encode(text)
    asked = [((text, str(i)), context, [i]) for i in range(len(theirs.tokenizer))]
    got, expected = (lm._loglikelihood_tokens(asked, disable_tqdm=True) for lm in (ours, theirs))
    np.testing.assert_allclose([x for x, _ in got], [x for x, _ in expected], atol=1e-4)
    flags = [[greedy for _, greedy in found] for found in (got, expected)]
    assert flags[0] == flags[1] and sum(flags[0]) == 1


def test_rolling_log_likelihoods_are_theirs(both: tuple[Any, Any, str]) -> None:
  ours, theirs, _ = both
  texts = [TEXT, " ".join([TEXT] * 5), "a", "the dog\n\nruns"]
  asked = instances("loglikelihood_rolling", [(text,) for text in texts])
  got, expected = (lm.loglikelihood_rolling(asked, disable_tqdm=True) for lm in (ours, theirs))
  np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-4)


def test_generations_are_theirs(both: tuple[Any, Any, str]) -> None:
  ours, theirs, _ = both
  kinds: list[dict[str, Any]] = [
    {"until": [" the", "\n"], "max_gen_toks": 9},
    {"until": ["a"], "max_gen_toks": 16, "do_sample": False, "temperature": 0.0},
  ]
  prompts = ["the quick brown", "a", "no dog sleeps, but the fox", " ".join([TEXT] * 4)]
  asked = instances("generate_until", [(text, kind) for kind in kinds for text in prompts])
  got = ours.generate_until(asked, disable_tqdm=True)
  if theirs.backend == "seq2seq":  # it adds the inputs' length to the limit unless told one
    kinds = [{**kind, "max_length": kind["max_gen_toks"] + 1} for kind in kinds]
  asked = instances("generate_until", [(text, kind) for kind in kinds for text in prompts])
  expected = theirs.generate_until(asked, disable_tqdm=True)
  assert got == expected and len(set(expected)) > 2, expected


def test_it_goes_by_its_name_as_other_models_do(both: tuple[Any, Any, str]) -> None:
  ours, theirs, path = both
  made = get_model("mtm").create_from_arg_string(
    f"pretrained={path},batch_size=3", {"device": "cpu", "max_batch_size": None}
  )
  assert isinstance(made, MTM) and made.backend == theirs.backend
  assert made.eot_token_id == theirs.eot_token_id
  assert made.prefix_token_id == theirs.prefix_token_id
  for text in ("the dog", "<|endoftext|>the", " a"):
    assert made.tok_encode(text) == theirs.tok_encode(text)
  with pytest.raises(UserError, match="no argument 'trust'"):
    get_model("mtm").create_from_arg_string(f"pretrained={path},trust=1")


def test_what_a_task_says_of_generation_is_heeded_or_refused(both: tuple[Any, Any, str]) -> None:
  told = both[0]._generation
  assert told({}) == (Greedy(), 256, [])
  assert told({"until": "x", "max_new_tokens": 3, "temperature": 0.7, "do_sample": False}) == (
    Greedy(), 3, ["x"],
  )  # fmt: skip
  assert told({"do_sample": True, "temperature": 0.7, "top_k": 4, "num_beams": 1}) == (
    Sample(0.7, 4), 256, [],
  )  # fmt: skip
  with pytest.raises(UserError, match="'top_kk' means nothing here; did you mean 'top_k'"):
    told({"top_kk": 4})


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
  """A directory with three tasks of local files."""
  import datasets

  monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
  rows = [
    {"q": "the fox", "choices": [" runs", " sleeps on", " no"], "gold": n % 3, "text": TEXT[n:]}
    for n in range(7)
  ]
  data = tmp_path / "rows.jsonl"
  data.write_text("".join(json.dumps(row) + "\n" for row in rows))
  shared = {
    "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
    "test_split": "test",
  }  # fmt: skip
  every = {
    "tiny_choices": {
      "output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_target": "{{gold}}",
      "doc_to_choice": "{{choices}}",
      "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "tiny_answers": {
      "output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{text}}",
      "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6},
      "metric_list": [{"metric": "exact_match"}],
    },
    "tiny_texts": {
      "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
      "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
  }  # fmt: skip
  for name, fields in every.items():
    told = json.dumps({"task": name, **shared, **fields})  # YAML is a superset
    (tmp_path / f"{name}.yaml").write_text(told)
  yield str(tmp_path)


def test_tasks_of_local_files_have_their_results(
  both: tuple[Any, Any, str], tasks: str, tmp_path: Path, capsys: Any
) -> None:
  _, theirs, path = both
  names = "tiny_choices,tiny_answers,tiny_texts"
  out = tmp_path / "out"
  flags = [f"--lm_eval={names}", path, f"--include_path={tasks}", f"--output={out}"]
  assert harness.main(flags) == 0
  shown = capsys.readouterr().out
  assert "tiny_choices" in shown and "word_perplexity" in shown
  ours = json.loads((out / "results.json").read_text())["results"]
  expected = lm_eval.simple_evaluate(
    model=theirs, tasks=names.split(","),
    task_manager=TaskManager(include_path=tasks, include_defaults=False),
  )["results"]  # fmt: skip
  for name in names.split(","):
    numbers = {k: v for k, v in expected[name].items() if isinstance(v, float)}
    assert numbers
    for metric, value in numbers.items():
      assert ours[name][metric] == pytest.approx(value, rel=1e-4), (name, metric)
  lines = (out / "samples.jsonl").read_text().splitlines()
  assert len(lines) == 21 and json.loads(lines[0])["task"] == "tiny_choices"


WRONG: list[tuple[Callable[[str], list[str]], str]] = [
  (lambda folder: ["--lm_eval=tiny_choises", "P", f"--include_path={folder}"], "tiny_choices"),
  (lambda folder: ["--lm_eval=x", "P", "--include_path=/nowhere"], "no such directory"),
  (lambda folder: ["--lm_eval=tiny_texts", "/nowhere", f"--include_path={folder}"], "/nowhere"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_is_wrong_is_told(tasks: str, capsys: Any, number: int) -> None:
  flags, told = WRONG[number]
  assert harness.main(flags(tasks)) == 1
  assert told in capsys.readouterr().err
