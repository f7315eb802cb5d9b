"""Words that are on every machine: those of the standard library's source, most frequent first."""

from __future__ import annotations

import collections
import functools
import re

from mtm.data.sources import stdlib

COUNT = 10_000
FIRST_NAMES = """
Ada Alan Alice Amir Amy Anna Anton Basil Bella Boris Carla Carlos Chloe Clara Dana David Diego Dora
Edgar Elena Elias Emma Erik Eva Felix Fiona Frida Gabriel George Greta Hana Hector Helen Hugo Ida
Igor Ines Iris Ivan Jack Jada Jonas Julia Kamal Karen Kevin Kira Lara Laura Leila Leo Linda Louis
Lucy Luke Maria Marco Martin Maya Mila Mohammed Nadia Nina Noah Nora Olga Oliver Omar Oscar Paula
Pedro Peter Priya Quinn Rachel Ravi Rita Robert Rosa Ruth Samuel Sara Simon Sofia Stella Sven Tara
Thomas Tina Tomas Uma Ursula Victor Vera Walter Wendy Xavier Yara Yusuf Zara Zoe
""".split()
LAST_NAMES = """
Adams Ahmed Allen Baker Barnes Becker Bell Bennett Berg Brooks Brown Burns Campbell Carter Chen
Clark Cohen Cole Collins Cook Cooper Costa Cox Cruz Davies Diaz Dixon Dunn Edwards Ellis Evans
Fisher Flores Ford Foster Fox Garcia Gibson Gomez Gordon Graham Grant Gray Green Gupta Hall Hansen
Harris Hayes Hill Holmes Howard Hughes Hunt Ito Jackson James Jensen Jones Kelly Khan Kim King
Klein Kumar Lang Lee Lewis Lopez Marsh Martin Mendez Meyer Moore Morgan Murphy Nelson Novak Ortiz
Owens Park Parker Patel Perez Perry Powell Price Reed Reyes Rivera Roberts Rossi Sato Schmidt
Silva Singh Stone Suzuki Tanaka Taylor Turner Vargas Wagner Walker Wang Ward Watson Webb Weber
White Wood Young
""".split()


@functools.cache
def frequent(least: int = 5, most: int = 14) -> tuple[str, ...]:
  """The 10,000 most frequent lower-case words of `least` to `most` letters, or as many as there
  are; equally frequent ones by alphabet."""
  counts: collections.Counter[str] = collections.Counter()
  pattern = re.compile(rf"(?<![A-Za-z0-9_])[a-z]{{{least},{most}}}(?![A-Za-z0-9_])")
  for split in stdlib.SPLITS:
    for _, text in stdlib.documents(split):
      counts.update(pattern.findall(text))
  ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  return tuple(word for word, _ in ranked[:COUNT])
