"""`constraints.txt` names one version of each package for each Python, and they go together."""

from __future__ import annotations

import importlib.metadata
import pathlib
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")


def pins(python: str) -> dict[str, Version]:
  """Of each package the version that this Python gets.

  Raises ValueError if there are two.
  """
  found: dict[str, Version] = {}
  for line in (ROOT / "constraints.txt").read_text().splitlines():
    if not line or line.startswith("#"):
      continue
    pin = Requirement(line)
    if pin.marker and not pin.marker.evaluate({"python_version": python}):
      continue
    (clause,) = pin.specifier
    name = canonicalize_name(pin.name)
    if name in found or clause.operator != "==":
      raise ValueError(f"{line!r} is no only version of {name} for Python {python}")
    found[name] = Version(clause.version)
  return found


def wishes() -> list[Requirement]:
  """What pyproject.toml asks for, extras included."""
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  extras = project["optional-dependencies"].values()
  return [Requirement(line) for lines in (project["dependencies"], *extras) for line in lines]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_has_one_version_that_suits(python: str) -> None:
  found = pins(python)
  for wish in wishes():
    assert found[canonicalize_name(wish.name)] in wish.specifier, wish
  assert found["jax"] == found["jaxlib"]


def test_what_is_installed_asks_for_nothing_that_the_pins_refuse() -> None:
  """Also of extras: `jax[tpu]` wants another jaxlib than `jax` is content with."""
  found = pins(f"{sys.version_info.major}.{sys.version_info.minor}")
  extras = {canonicalize_name(w.name): w.extras for w in wishes() if w.extras}
  checked = 0
  for name, version in found.items():
    try:
      asked = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
      continue  # of an extra that is not here
    if importlib.metadata.version(name) != str(version):
      continue  # installed by other means than these pins
    checked += 1
    for wish in map(Requirement, asked):
      wanted = any(
        wish.marker is None or wish.marker.evaluate({"extra": extra})
        for extra in ("", *extras.get(name, ()))
      )
      if wanted and canonicalize_name(wish.name) in found:
        assert wish.specifier.contains(found[canonicalize_name(wish.name)], prereleases=True), (
          f"{name} {version} asks for {wish}"
        )
  assert checked, "nothing that is installed has its pinned version"
