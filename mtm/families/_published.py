"""What a family says of its published checkpoints; how it reads their config without guessing."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from mtm.errors import UserError
from mtm.families._names import Row
from mtm.parts import activations
from mtm.types import Model

Arguments = dict[str, Any]  # a builder's

# What a config may say without a word about the model's function: sizes of generation, bookkeeping,
# initialisation, dropout of heads that are not built, and ids that the vocabulary carries.
INERT = frozenset(
  (
    "_name_or_path _attn_implementation architectures model_type transformers_version dtype "
    "torch_dtype use_cache initializer_range initializer_factor bos_token_id eos_token_id "
    "pad_token_id sep_token_id unk_token_id mask_token_id decoder_start_token_id "
    "forced_eos_token_id forced_bos_token_id finetuning_task id2label label2id num_labels "
    "problem_type task_specific_params output_attentions output_hidden_states output_past "
    "return_dict gradient_checkpointing is_encoder_decoder is_decoder prefix tokenizer_class "
    "torchscript use_bfloat16 n_ctx classifier_dropout summary_activation summary_first_dropout "
    "summary_proj_to_labels summary_type summary_use_proj chunk_size_feed_forward max_length "
    "min_length num_beams do_sample early_stopping no_repeat_ngram_size length_penalty "
    "pretraining_tp attention_dropout_rate normalize_before keys_to_ignore_at_inference"
  ).split()
)


# The names that configs use → ours.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": activations.gelu,
  "gelu_new": jax.nn.gelu,
  "gelu_pytorch_tanh": jax.nn.gelu,
  "gelu_fast": jax.nn.gelu,
  "quick_gelu": activations.quick_gelu,
  "relu": jax.nn.relu,
  "silu": jax.nn.silu,
  "swish": jax.nn.silu,
  "tanh": jax.numpy.tanh,
}


class Config:
  """A `config.json` that remembers what was read of it, so that nothing is overlooked."""

  def __init__(self, values: Mapping[str, Any], source: str = "config.json") -> None:
    self.values, self.source = dict(values), source
    self._read: set[str] = set()

  def get(self, name: str, default: Any) -> Any:
    """A value, or the default that the original's code gives it; null is no value."""
    self._read.add(name)
    value = self.values.get(name)
    return default if value is None else value

  def need(self, name: str) -> Any:
    """A value. Raises UserError where there is none."""
    self._read.add(name)
    if self.values.get(name) is None:
      raise UserError(f"{self.source} has no {name!r}: is it the config of another model?")
    return self.values[name]

  def expect(self, name: str, *allowed: Any) -> None:
    """Raises UserError unless the value is one of `allowed`, the first of which is the default."""
    value = self.get(name, allowed[0])
    if value not in allowed:
      shown = " or ".join(repr(a) for a in allowed)
      raise UserError(
        f"{self.source} has {name} = {value!r}, which mtm cannot honour: it has {shown}"
      )

  def activation(self, name: str, default: str) -> Callable[[jax.Array], jax.Array]:
    """An activation function by the name that the config gives it."""
    value = self.get(name, default)
    if value not in ACTIVATIONS:
      raise UserError(
        f"{self.source} has {name} = {value!r}, which mtm cannot honour: it has"
        f" {', '.join(sorted(ACTIVATIONS))}"
      )
    return ACTIVATIONS[value]

  def same(self, *names: str, default: Any = 0.0) -> Any:
    """The one value of several settings. Raises UserError where they differ."""
    values = {name: self.get(name, default) for name in names}
    if len(set(values.values())) > 1:
      told = ", ".join(f"{k} = {v}" for k, v in values.items())
      raise UserError(f"{self.source} has {told}, and mtm one value for all of them")
    return next(iter(values.values()))

  def ignore(self, *names: str) -> None:
    """Settings that say nothing about this model's function."""
    self._read.update(names)

  def finish(self) -> None:
    """Raises UserError naming a setting that nobody read and that is neither inert nor off."""
    for name in sorted(self.values.keys() - self._read - INERT):
      if self.values[name] not in (None, False, [], {}, ""):
        raise UserError(
          f"{self.source} has {name} = {self.values[name]!r}, which this family does not know: mtm"
          " refuses it rather than build another model"
        )


@dataclasses.dataclass(frozen=True)
class Published:
  """How checkpoints of a family look at HuggingFace.

  Attributes:
    model_type: what `config.json` calls it.
    architectures: the classes whose weights these rows name, the first of which is written.
    build: the builder.
    arguments: config → the builder's arguments; refuses what the family cannot honour.
    config: the builder's arguments (all of them) → config, for models that were trained here.
    rows: the builder's arguments → the name table.
    prefix: what stands before a bare model's names in those of `architectures`.
    ignored: tensors that hold no parameter, such as buffers, as regular expressions.
    copies: tensors that may repeat another one, as tied heads do: name → whose copy.
    counted: whether an encoder's positions count the tokens that are no padding.
    ids: special ids that their class has where a config.json says nothing, such as
      `{"pad_token_id": 1}`; None: its user has to say.
    others: like `rows`, of other ways to store the same parameters; a checkpoint is read, and
      written back, by the first table whose names are all there.
  """

  model_type: str
  architectures: tuple[str, ...]
  build: Callable[..., Model]
  arguments: Callable[[Config], Arguments]
  config: Callable[[Arguments], dict[str, Any]]
  rows: Callable[[Arguments], Sequence[Row]]
  prefix: str = ""
  ignored: tuple[str, ...] = ()
  copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
  ids: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
  others: tuple[Callable[[Arguments], Sequence[Row]], ...] = ()
  counted: bool = False


def complete(build: Callable[..., Model], arguments: Arguments) -> Arguments:
  """A builder's arguments with its own defaults where they say nothing."""
  defaults = {
    name: parameter.default
    for name, parameter in inspect.signature(build).parameters.items()
    if parameter.default is not parameter.empty
  }
  return {**defaults, **arguments}


def name_of(activation: Callable[[jax.Array], jax.Array]) -> str:
  """The name that a config gives an activation. Raises UserError where it has none."""
  for name, function in ACTIVATIONS.items():
    if function is activation:
      return name
  raise UserError(f"{activation} has no name in a config.json: it cannot be written as one")
