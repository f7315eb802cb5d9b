"""Annotations on their own: reading, spelling, and which pairs fit."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
import pytest

from mtm.config import hints
from tests.fixtures import gin_roots


@dataclasses.dataclass
class Base:
  x: int
  y: dataclasses.InitVar[str] = "a"


@dataclasses.dataclass
class Child(Base):
  z: Sequence[Base] = ()


class Plain:
  def __new__(cls, size: int) -> Plain:
    return super().__new__(cls)

  def __call__(self, step: int) -> float:
    return 0.0


def test_fields_are_read_from_the_class_that_declares_them():
  found = hints.of(Child)
  assert found["x"] is int and found["z"] == Sequence[Base] and found["return"] is Child
  assert hints.members(found["y"]) == (str,)


def test_constructors_partials_and_callable_objects_are_read():
  assert hints.of(Plain)["size"] is int
  assert hints.of(functools.partial(gin_roots.decayed, 1))["rate"] is float
  assert hints.of(Plain(1))["step"] is int
  assert hints.of(jax.jit(gin_roots.decayed))["floor"] is float
  assert hints.of(gin_roots.Size)["width"] is int


def test_one_annotation_that_does_not_resolve_hides_no_other():
  assert hints.of(gin_roots.anything) == {"more": int, "return": Any}


@pytest.mark.parametrize(
  "annotation, text",
  [
    (int, "int"),
    (None, "None"),
    (int | None, "int | None"),
    (typing.Optional[str], "str | None"),  # noqa: UP045
    (Mapping[str, int], "Mapping[str, int]"),
    (tuple[int, ...], "tuple[int, ...]"),
    (Callable[[jax.Array], float], "Callable[[Array], float]"),
    (typing.Literal["a", 1], "Literal['a', 1]"),
    (list[int | str], "list[int | str]"),
    (Any, "Any"),
  ],
)
def test_spelling(annotation, text):
  assert hints.spell(annotation) == text


@pytest.mark.parametrize(
  "value, annotation, fits",
  [
    (1, int, True),
    (True, int, False),
    (True, bool, True),
    (1, bool, False),
    (1, float, True),
    (True, float, False),
    (1.0, int, False),
    (1, complex, True),
    ("a", str, True),
    ("a", Sequence[str], False),
    ("a", Iterable, False),
    ("a", collections.abc.Hashable, True),
    (None, None, True),
    (None, type(None), True),
    (None, int, False),
    (1, object, True),
    (1, typing.TypeVar("T"), True),
    ("a", typing.Literal["a"], True),
    (True, typing.Literal[1], False),
    (1, Callable[..., Any], False),
    (1, type[int], False),
    (0.5, jax.Array, False),
    (0.5, np.ndarray, False),
    ("float32", np.dtype, False),
    (1, optax.GradientTransformation, False),
  ],
)
def test_literals(value, annotation, fits):
  assert hints.literal_fits(value, annotation) == fits


@pytest.mark.parametrize(
  "given, wanted, fits",
  [
    (Child, Base, True),
    (Base, Child, True),  # may hold a Child at run time
    (Base, Plain, False),
    (int, float, True),
    (bool, int, False),
    (Base | None, Base, True),
    (Base, Plain | None, False),
    (None, Base, False),
    (Any, Base, True),
    (Base, Any, True),
    (list[int], Sequence[int], True),
    (list[int], Mapping[str, int], False),
    (Callable[[int], float], gin_roots.Scheduler, True),
    (Callable[[int], float], Plain, True),  # its instances can be called
    (Callable[[int], float], Base, False),
    (Plain, gin_roots.Scheduler, True),
    (Plain, Callable[..., Any], True),
    (Base, Callable[..., Any], False),
    (gin_roots.Decoder, gin_roots.Model, True),
    (gin_roots.Dataset, gin_roots.Model, False),
    (optax.GradientTransformationExtraArgs, optax.GradientTransformation, True),
    (optax.GradientTransformation, optax.Schedule, False),
    (typing.Literal["a"], str, True),
    (typing.Literal["a"], int, False),
  ],
)
def test_what_a_call_returns(given, wanted, fits):
  assert hints.returns_fit(given, wanted) == fits


@pytest.mark.parametrize(
  "annotation, fits",
  [
    (Callable[..., Any], True),
    (type[Base], True),
    (gin_roots.Scheduler, True),
    (Plain, True),
    (Any, True),
    (Base, False),
    (int, False),
    (None, False),
    (typing.Literal["a"], False),
  ],
)
def test_functions_passed_on(annotation, fits):
  assert hints.callable_fits(annotation) == fits
