"""`mtm.load` against `transformers`: padded ids, encodings, scores, ends and texts, live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import mtm  # noqa: E402
from mtm.programs.handle import Handle  # noqa: E402

pytestmark = pytest.mark.parity

VOCAB = 37
BARTS = {
  "vocab_size": VOCAB, "d_model": 12, "encoder_layers": 2, "decoder_layers": 1,
  "encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 20,
  "decoder_ffn_dim": 20, "max_position_embeddings": 64, "forced_eos_token_id": None,
}  # fmt: skip
BERTS = {
  "vocab_size": VOCAB, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
  "intermediate_size": 20, "max_position_embeddings": 64,
}  # fmt: skip
T5S = {
  "vocab_size": VOCAB, "d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 2, "num_heads": 3,
  "decoder_start_token_id": 0,
}  # fmt: skip
ENCODERS = {
  "Roberta": ("MaskedLM", BERTS),
  "Longformer": ("MaskedLM", {**BERTS, "attention_window": 4, "sep_token_id": 2}),
  "MPNet": ("MaskedLM", BERTS),
  "Electra": ("MaskedLM", {**BERTS, "embedding_size": 8}),
  "Bert": ("MaskedLM", BERTS),
  "XLNet": (
    "LMHeadModel",
    {"vocab_size": VOCAB, "d_model": 12, "n_layer": 2, "n_head": 3, "d_inner": 20, "mem_len": None},
  ),
}
PAIRS = {
  "Bart": BARTS,
  "MBart": {**BARTS, "decoder_start_token_id": 9},
  "Pegasus": BARTS,
  "T5": T5S,
}


def original(name: str, folder: Path) -> tuple[Any, Handle]:
  """Theirs, and the handle of what they saved."""
  kind, fields = ENCODERS.get(name) or ("ForConditionalGeneration", PAIRS[name])
  kind = f"For{kind}" if kind == "MaskedLM" else kind
  torch.manual_seed(0)
  theirs = getattr(transformers, f"{name}{kind}")(
    getattr(transformers, f"{name}Config")(**fields)
  ).eval()
  with torch.no_grad():
    for parameter in theirs.parameters():
      if parameter.requires_grad:  # PEGASUS's sinusoids are a frozen parameter
        parameter += 0.3 * torch.randn(parameter.shape)
  theirs.save_pretrained(folder)
  return theirs, mtm.load(folder)


def padded(pad: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Ids `[3, 11]` that end in padding, id 0 among them where it is another, and their mask."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(6, VOCAB, (3, 11))
  ids[:, 0] = 0 if pad else 3
  mask = np.arange(11)[None] < np.array([11, 8, 5])[:, None]
  return np.where(mask, ids, pad), mask


def asked(ids: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
  return {"input_ids": torch.as_tensor(ids), "attention_mask": torch.as_tensor(mask).long()}


@pytest.mark.parametrize("name", list(ENCODERS))
def test_padded_ids_of_an_encoder(name: str, tmp_path: Path) -> None:
  theirs, handle = original(name, tmp_path / "hf")
  assert handle.pad_id == theirs.config.pad_token_id
  ids, mask = padded(handle.pad_id)
  with torch.no_grad():
    out = theirs(**asked(ids, mask), output_hidden_states=True)
  ours = np.asarray(handle.logits({"encoder_input_tokens": ids}))
  np.testing.assert_allclose(ours[mask], out.logits.numpy()[mask], atol=1e-4, rtol=1e-4)
  for states, wanted, real in zip(handle.encode(ids), out.hidden_states[-1], mask, strict=True):
    np.testing.assert_allclose(states, wanted.numpy()[real], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ENCODERS))
def test_ids_of_an_encoder_with_padding_on_the_left(name: str, tmp_path: Path) -> None:
  theirs, handle = original(name, tmp_path / "hf")
  ids, mask = (x[:, ::-1].copy() for x in padded(handle.pad_id))
  with torch.no_grad():
    wanted = theirs(**asked(ids, mask)).logits.numpy()
  ours = np.asarray(handle.logits({"encoder_input_tokens": ids}))
  np.testing.assert_allclose(ours[mask], wanted[mask], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("left", [False, True])
def test_global_tokens_of_a_longformer(left: bool, tmp_path: Path) -> None:
  theirs, handle = original("Longformer", tmp_path / "hf")
  ids, mask = padded(handle.pad_id)
  if left:
    ids, mask = ids[:, ::-1].copy(), mask[:, ::-1].copy()
  seen = np.zeros_like(ids)
  seen[0, 0] = seen[0, 9] = seen[1, 4] = 1  # none of the third
  seen *= mask
  with torch.no_grad():
    out = theirs(**asked(ids, mask), global_attention_mask=torch.as_tensor(seen))
  ours = np.asarray(handle.logits({"encoder_input_tokens": ids, "encoder_global_attention": seen}))
  np.testing.assert_allclose(ours[mask], out.logits.numpy()[mask], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", list(PAIRS))
def test_padded_ids_of_an_encoder_decoder(name: str, tmp_path: Path) -> None:
  theirs, handle = original(name, tmp_path / "hf")
  begin = theirs.config.decoder_start_token_id
  assert (handle.pad_id, handle.begin_id) == (theirs.config.pad_token_id, begin)
  ids, mask = padded(handle.pad_id)
  targets, real = padded(handle.pad_id, 1)
  fed = np.concatenate([np.full((3, 1), begin), targets[:, :-1]], axis=1)
  with torch.no_grad():
    out = theirs(**asked(ids, mask), decoder_input_ids=torch.as_tensor(fed))
    answers = theirs.generate(
      **asked(ids, mask), max_new_tokens=7, do_sample=False, eos_token_id=None
    )
  ours = np.asarray(handle.logits({"encoder_input_tokens": ids, "decoder_input_tokens": fed}))
  np.testing.assert_allclose(ours[real], out.logits.numpy()[real], atol=1e-4, rtol=1e-4)
  for states, wanted, kept in zip(
    handle.encode(ids), out.encoder_last_hidden_state, mask, strict=True
  ):
    np.testing.assert_allclose(states, wanted.numpy()[kept], atol=1e-4, rtol=1e-4)
  told = torch.log_softmax(out.logits.double(), -1).numpy()
  likely = np.take_along_axis(told, targets[..., None], -1)[..., 0]
  np.testing.assert_allclose(handle.score(ids, targets), (likely * real).sum(1), rtol=1e-4)
  ended = handle.eos_id
  for mine, line in zip(handle.generate(ids, 7), answers[:, 1:].tolist(), strict=True):
    assert mine == (line[: line.index(ended)] if ended in line else line)


@pytest.mark.parametrize("name", ["Bart", "MBart", "T5"])
def test_generation_heeds_the_directory_s_settings(name: str, tmp_path: Path) -> None:
  theirs, _ = original(name, tmp_path / "hf")
  told = {
    "forced_bos_token_id": 9, "min_length": 6, "no_repeat_ngram_size": 2, "forced_eos_token_id": 2,
    "eos_token_id": list(range(12, 37)),
  }  # fmt: skip
  theirs.generation_config.update(**told)
  theirs.generation_config.save_pretrained(tmp_path / "hf")
  handle = mtm.load(tmp_path / "hf")
  ids, mask = padded(handle.pad_id)
  with torch.no_grad():
    answers = theirs.generate(**asked(ids, mask), max_new_tokens=9, do_sample=False)[:, 1:].tolist()
  for mine, line in zip(handle.generate(ids, 9), answers, strict=True):
    ends = [i for i, token in enumerate(line) if token in told["eos_token_id"]]
    wanted = line[: ends[0]] if ends else line
    assert mine == wanted and mine[0] == 9 and len(mine) >= 5


def gpt2(folder: Path, **fields: Any) -> Any:
  torch.manual_seed(0)
  config = transformers.GPT2Config(
    vocab_size=VOCAB, n_embd=12, n_layer=2, n_head=3, n_positions=64, **fields
  )
  theirs = transformers.GPT2LMHeadModel(config).eval()
  with torch.no_grad():
    for parameter in theirs.parameters():
      parameter += 0.3 * torch.randn(parameter.shape)
  theirs.save_pretrained(folder)
  return theirs


def test_a_decoder_without_padding_ends_at_any_of_its_ends(tmp_path: Path) -> None:
  theirs = gpt2(tmp_path / "hf", bos_token_id=1, eos_token_id=2)
  prompts = [[0, 5, 9], [7, 0, 6], [8, 8, 0]]
  with torch.no_grad():
    free = theirs.generate(
      torch.as_tensor(prompts), max_new_tokens=9, do_sample=False, eos_token_id=None
    )[:, 3:]
  ends = sorted({int(free[0, 3]), int(free[1, 5])})
  theirs.generation_config.eos_token_id = ends
  theirs.generation_config.pad_token_id = ends[0]
  theirs.save_pretrained(tmp_path / "ends")
  handle = mtm.load(tmp_path / "ends")
  assert handle.eos_id == tuple(ends)
  with torch.no_grad():
    told = theirs.generate(torch.as_tensor(prompts), max_new_tokens=9, do_sample=False)[:, 3:]
  ours = handle.generate(prompts, 9)
  for mine, line in zip(ours, told.tolist(), strict=True):
    first = next((i for i, token in enumerate(line) if token in ends), len(line))
    assert mine == line[:first]
  assert min(map(len, ours)) < 9
  plain = mtm.load(tmp_path / "hf")
  assert plain.pad_id is None and plain.eos_id == 2
  logits = np.asarray(plain.logits({"decoder_input_tokens": prompts}))
  with torch.no_grad():
    wanted = theirs(torch.as_tensor(prompts)).logits.numpy()
  np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=1e-4)


def test_a_llama_reads_a_text_after_its_begin(tmp_path: Path) -> None:
  """As its tokenizer and `generate` do it."""
  from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

  words = ["<unk>", "<s>", "</s>", *"abcdefghijklmnop"]
  backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
  backend.pre_tokenizer = pre_tokenizers.Whitespace()
  backend.decoder = decoders.Metaspace()
  backend.post_processor = processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", 1)]
  )
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
  )
  torch.manual_seed(0)
  config = transformers.LlamaConfig(
    vocab_size=len(words), hidden_size=12, intermediate_size=20, num_hidden_layers=2,
    num_attention_heads=3, max_position_embeddings=64,
  )  # fmt: skip
  theirs = transformers.LlamaForCausalLM(config).eval()
  with torch.no_grad():
    for parameter in theirs.parameters():
      parameter += 0.3 * torch.randn(parameter.shape)
  theirs.save_pretrained(tmp_path)
  tokenizer.save_pretrained(tmp_path)
  handle = mtm.load(tmp_path)
  text = "a b c"
  asked = tokenizer(text, return_tensors="pt")
  assert asked["input_ids"][0, 0] == 1
  with torch.no_grad():
    line = theirs.generate(
      input_ids=asked["input_ids"], max_new_tokens=6, do_sample=False, eos_token_id=None
    )[0, 4:]
    logits = theirs(asked["input_ids"]).logits[0].double()
  ids = line.tolist()
  ids = ids[: ids.index(2)] if 2 in ids else ids
  assert handle.generate([text], 6) == [handle.vocabulary.decode(ids)]
  first = torch.log_softmax(logits[-1], -1)[tokenizer.convert_tokens_to_ids("d")]
  assert handle.score([text], ["d"])[0] == pytest.approx(float(first), rel=1e-4)


def test_pegasus_saves_the_table_that_ours_computes(tmp_path: Path) -> None:
  """Bit for bit, at the length of the published ones."""
  from mtm.families.pegasus import Sinusoids

  config = transformers.PegasusConfig(**{**BARTS, "max_position_embeddings": 1024, "d_model": 48})
  theirs = transformers.PegasusForConditionalGeneration(config)
  table = theirs.model.encoder.embed_positions.weight.detach().numpy()
  np.testing.assert_array_equal(table, Sinusoids(1024, 48).table())
  theirs.save_pretrained(tmp_path)
  mtm.load(tmp_path)  # refuses another table
