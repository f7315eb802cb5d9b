"""The vocabulary of a published checkpoint, whatever files its directory holds.

What is not SentencePiece becomes a `tokenizer.json` in the cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtm.data.store import cache_directory, write_atomically
from mtm.data.tokenizer_json import (
  Configs,
  TokenizerJson,
  content,
  json_object,
  one_line,
  tokenizers,
  with_special_ids,
)
from mtm.data.vocabulary import Bytes, SentencePiece, Vocabulary, has_sentinels
from mtm.errors import UserError

SENTINEL = re.compile(r"<extra_id_\d+>")
CURE = (
  "write a tokenizer.json there with "
  "transformers.AutoTokenizer.from_pretrained(directory).save_pretrained(directory)"
)
# The order in which transformers adds what a vocabulary lacks.
SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
PROPHETNET = {role: token for role, token in BERT.items() if role != "cls"}
GPT2 = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")
T5_NAMES = {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
ROBERTA = {
  **{"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"},
  **{"cls": "<s>", "sep": "</s>"},
}


def from_directory(path: str | os.PathLike[str]) -> Vocabulary:
  """The vocabulary of a checkpoint's directory, whichever of the known files it holds.

  The first of `tokenizer.json`, a SentencePiece model, `vocab.txt` (WordPiece), `vocab.json` with
  `merges.txt` (GPT-2's bytes) counts; ByT5 needs none. All but the first are read only for kinds of
  checkpoints whose ids are known to be the file's; one that names no kind is taken for such a one.

  Raises:
    UserError: the directory is missing, holds none of these, or one that is damaged or of a kind
      that numbers or splits its tokens in its own way.
  """
  folder = pathlib.Path(path)
  if not folder.is_dir():
    raise UserError(f"{folder}: no such directory; name the directory of a checkpoint")
  configs = Configs(folder)
  for names, read, kinds in LAYOUTS:
    if all((folder / name).is_file() for name in names):
      if kinds and configs.kind not in kinds:
        raise UserError(
          f"{folder / names[0]}: {configs.kind or 'an unnamed kind of checkpoint'} may read this "
          f"file in its own way; {CURE}"
        )
      return read(folder, configs)
  if configs.kind in WITHOUT_FILES:
    return WITHOUT_FILES[configs.kind](configs)
  looked_for = ", ".join(" with ".join(names) for names, _, _ in LAYOUTS)
  raise UserError(
    f"{folder}: no tokenizer is here (looked for {looked_for}); copy one of them here"
  )


@dataclasses.dataclass(frozen=True)
class Begun(SentencePiece):
  """A SentencePiece model whose texts begin with its begin-of-sequence id, as LLaMA's do."""

  def framed(self, text: str) -> list[int]:
    """The ids of `text` after the begin."""
    begin = self.bos_id
    return [*([] if begin is None else [begin]), *self.encode(text)]


def _llama(name: str) -> Callable[[pathlib.Path, Configs], SentencePiece]:
  def read(folder: pathlib.Path, configs: Configs) -> SentencePiece:
    plain = _sentencepiece(name)(folder, configs)
    begins = configs.kind in LLAMA and configs.option("add_bos_token", True)
    return Begun(plain.path, plain.extra_ids) if begins else plain

  return read


def _t5(folder: pathlib.Path, configs: Configs) -> Vocabulary:
  """T5's `spiece.model` as transformers runs it: sentinels and other special tokens that a text
  spells out become their ids wherever they stand.

  A model that holds its sentinels itself (mT5), and one of a checkpoint that names no kind, is run
  by its own library.
  """
  from sentencepiece import sentencepiece_model_pb2

  pb: Any = sentencepiece_model_pb2
  path, tk = folder / "spiece.model", tokenizers()
  held = has_sentinels(str(path))  # tells plainly what is wrong with the file
  model = pb.ModelProto.FromString(path.read_bytes())
  if held or configs.kind is None or model.trainer_spec.model_type != pb.TrainerSpec.UNIGRAM:
    return _sentencepiece("spiece.model")(folder, configs)
  sentinels = [f"<extra_id_{i}>" for i in reversed(range(_extra_ids(configs)))]
  scores = [*((p.piece, p.score) for p in model.pieces), *((token, 0.0) for token in sentinels)]
  backend = tk.Tokenizer(tk.models.Unigram(scores, unk_id=model.trainer_spec.unk_id))
  if model.normalizer_spec.precompiled_charsmap:
    backend.normalizer = tk.normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
  spaced = {"replacement": "▁", "prepend_scheme": "always", "split": True}
  backend.pre_tokenizer = tk.pre_tokenizers.Sequence(
    [tk.pre_tokenizers.WhitespaceSplit(), tk.pre_tokenizers.Metaspace(**spaced)]
  )
  backend.decoder = tk.decoders.Metaspace(**spaced)
  listed = (pb.ModelProto.SentencePiece.CONTROL, pb.ModelProto.SentencePiece.USER_DEFINED)
  more = [*(p.piece for p in model.pieces if p.type in listed), *sentinels]
  return _built(backend, path, configs, T5_NAMES, (None, "eos"), more)


def _sentencepiece(name: str) -> Callable[[pathlib.Path, Configs], SentencePiece]:
  def read(folder: pathlib.Path, configs: Configs) -> SentencePiece:
    path = str(folder / name)
    vocabulary = SentencePiece(path, 0 if has_sentinels(path) else _extra_ids(configs))
    pieces = vocabulary._processor
    for i, token in configs.added().items():
      piece = pieces.id_to_piece(i).removeprefix("▁") if i < len(pieces) else None
      if piece != content(token).removeprefix("▁"):
        raise UserError(f"{path}: {content(token)!r} has id {i} elsewhere but not here; {CURE}")
    return vocabulary

  return read


def _extra_ids(configs: Configs) -> int:
  """How many sentinels lie above the ids of the model; T5Tokenizer adds a hundred by itself."""
  told = {content(token) for token in (*configs.more(), *configs.added().values())}
  listed = sum(bool(SENTINEL.fullmatch(token)) for token in told)
  return int(configs.option("extra_ids", listed or EXTRA_IDS.get(configs.kind or "", 0)))


def _bert(folder: pathlib.Path, configs: Configs) -> TokenizerJson:
  """BERT's `vocab.txt`."""
  return _wordpiece(folder / "vocab.txt", configs, BERT, ("cls", "sep"))


def _prophetnet(folder: pathlib.Path, configs: Configs) -> TokenizerJson:
  """ProphetNet's `prophetnet.tokenizer`: BERT's with nothing before a text, and a token that parts
  sentences."""
  path, parting = folder / "prophetnet.tokenizer", content(configs.named("x_sep")) or "[X_SEP]"
  return _wordpiece(path, configs, PROPHETNET, (None, "sep"), [parting], plain=True)


def _wordpiece(
  path: pathlib.Path,
  configs: Configs,
  defaults: Mapping[str, str],
  frame: tuple[str | None, str | None],
  more: Sequence[str] = (),
  plain: bool = False,
) -> TokenizerJson:
  """BERT's pipeline over a list of tokens; the number of a line is an id. See `_built`; `plain`: as
  code without the `tokenizers` library has it, which composes characters first and leaves spaces
  before punctuation when it decodes."""
  tk = tokenizers()
  try:
    with open(path, encoding="utf-8") as lines:
      ids = {line.rstrip("\n"): i for i, line in enumerate(lines)}
  except UnicodeDecodeError as e:
    raise UserError(f"{path}: damaged ({e}); copy it again from the checkpoint") from None
  unknown = content(configs.named("unk")) or BERT["unk"]
  if unknown not in ids:
    raise UserError(f"{path}: no WordPiece vocabulary, for {unknown} is missing; copy it again")
  backend = tk.Tokenizer(tk.models.WordPiece(ids, unk_token=unknown))
  backend.normalizer = tk.normalizers.BertNormalizer(
    clean_text=True,
    handle_chinese_chars=configs.option("tokenize_chinese_chars", True),
    strip_accents=configs.option("strip_accents", None),
    lowercase=configs.option("do_lower_case", True),
  )
  if plain:
    composed = [tk.normalizers.NFC(), backend.normalizer]
    backend.normalizer = tk.normalizers.Sequence(composed)
  backend.pre_tokenizer = tk.pre_tokenizers.BertPreTokenizer()
  backend.decoder = tk.decoders.WordPiece(prefix="##", cleanup=not plain)
  return _built(backend, path, configs, defaults, frame, more)


def _byte_bpe(folder: pathlib.Path, configs: Configs) -> TokenizerJson:
  """GPT-2's pipeline over `vocab.json` and `merges.txt`."""
  tk, path, merges = tokenizers(), folder / "vocab.json", folder / "merges.txt"
  json_object(path)  # tells plainly what is wrong with the file
  try:
    backend = tk.Tokenizer(tk.models.BPE.from_file(str(path), str(merges)))
  except Exception as e:  # the library raises bare exceptions
    raise UserError(f"{merges}: damaged ({one_line(e)}); copy it and vocab.json again") from e
  spaced = bool(configs.option("add_prefix_space", False))
  backend.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=spaced)
  backend.decoder = tk.decoders.ByteLevel()
  defaults = BYTE_BPE[configs.kind]
  before, after = ("cls", "sep") if "cls" in defaults else (None, None)
  if configs.option("add_bos_token", False):  # OPT
    before = "bos"
  return _built(backend, path, configs, defaults, (before, after))


def _built(
  backend: Any,
  source: pathlib.Path,
  configs: Configs,
  defaults: Mapping[str, str],
  frame: tuple[str | None, str | None],
  more: Sequence[str] = (),
) -> TokenizerJson:
  """Adds the tokens that transformers adds, in its order, and keeps the result in the cache.

  Args:
    backend: the tokenizer.
    source: its file, for errors.
    configs: what the checkpoint says of it.
    defaults: role → token, where `configs` name none.
    frame: the roles of what stands before and after a text that is framed.
    more: further special tokens.
  """
  tokens = {role: configs.named(role) or defaults.get(role) for role in SPECIAL}
  known = [*tokens.values(), *more, *configs.more()]
  special = {content(token): token for token in known if token}
  for i, token in configs.added().items():
    told = token if isinstance(token, dict) else special.pop(token, {"content": token})
    backend.add_tokens([_added_token(told, special=content(token) in special)])
    if backend.token_to_id(content(token)) != i:
      raise UserError(f"{source}: {content(token)!r} cannot get its id {i} here; {CURE}")
  backend.add_tokens([_added_token(token, special=True) for token in special.values()])
  around = [content(tokens[role]) if role else "" for role in frame]
  if any(around):
    backend.post_processor = tokenizers().processors.TemplateProcessing(
      single=[token for token in (around[0], "$A", around[1]) if token],
      special_tokens=[(token, backend.token_to_id(token)) for token in {*around} if token],
    )
  data = backend.to_str().encode()
  copy = cache_directory() / "vocabularies" / f"{hashlib.sha256(data).hexdigest()[:16]}.json"
  if not copy.exists():
    write_atomically(copy, data)
  return with_special_ids(copy, configs, defaults)


def _added_token(token: Any, special: bool) -> Any:
  told = token if isinstance(token, dict) else {"content": token}
  flags = ("single_word", "lstrip", "rstrip", "normalized")
  given = {flag: told[flag] for flag in flags if flag in told}
  special = special or bool(told.get("special"))
  return tokenizers().AddedToken(told["content"], special=special, **given)


# Kinds of checkpoints whose ids are known to be those of the file; None is one that is not named.
Kinds = tuple[str | None, ...]
T5: Kinds = ("t5", "mt5", "umt5", "longt5", "switchtransformers")
LLAMA: Kinds = ("llama", "codellama", "mistral", "mixtral", "gemma", "gemma2")
BERTS: Kinds = (None, "bert", "distilbert", "electra", "mobilebert", "convbert", "squeezebert")
BYTE_BPE: dict[str | None, dict[str, str]] = {
  **dict.fromkeys((None, "gpt2", "gptneo", "gptj", "codegen", "phi"), GPT2),
  **dict.fromkeys(("roberta", "bart", "longformer", "led"), ROBERTA),
}
EXTRA_IDS = {"t5": 100, "byt5": 125}

Read = Callable[[pathlib.Path, Configs], Vocabulary]

# Files → how they are read, and for which kinds of checkpoints (all of them where empty).
LAYOUTS: list[tuple[tuple[str, ...], Read, Kinds]] = [
  (("tokenizer.json",), lambda folder, _: TokenizerJson.from_hf(folder), ()),
  (("spiece.model",), _t5, (None, *T5)),
  # fairseq's name: XLM-R and its like move all ids by one.
  (("sentencepiece.bpe.model",), _llama("sentencepiece.bpe.model"), T5 + LLAMA),
  (("tokenizer.model",), _llama("tokenizer.model"), (None, *T5, *LLAMA)),
  (("prophetnet.tokenizer",), _prophetnet, ()),
  (("vocab.txt",), _bert, BERTS),
  (("vocab.json", "merges.txt"), _byte_bpe, tuple(BYTE_BPE)),
]
WITHOUT_FILES: dict[str | None, Callable[[Configs], Vocabulary]] = {
  "byt5": lambda configs: Bytes(_extra_ids(configs)),
}
