"""Wikipedia articles as TFDS has cleaned them, by dump and language."""

from __future__ import annotations

DUMP = "20230601"
LANGUAGES = tuple("ar de en es fr hi id it ja ko pt ru sw tr vi".split())
LICENCES = {f"wikipedia_{DUMP}.{language}": "CC BY-SA 3.0, GFDL" for language in LANGUAGES}


def register() -> None:
  """Registers `wikipedia_20230601.en` and so on, and `.multilingual`: every language alike."""
  from mtm.data._tensorflow import seqio
  from mtm.tasks import _t5

  names = [f"wikipedia_{DUMP}.{language}" for language in LANGUAGES]
  for name, language in zip(names, LANGUAGES, strict=True):
    _t5.language(name, f"wikipedia/{DUMP}.{language}:1.0.0")
  if f"wikipedia_{DUMP}.multilingual" not in seqio().MixtureRegistry.names():
    seqio().MixtureRegistry.add(f"wikipedia_{DUMP}.multilingual", names, default_rate=1.0)
