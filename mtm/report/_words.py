"""Numbers as people read them."""

from __future__ import annotations

import math


def count(number: float) -> str:
  """Three digits and a letter: 512, 41.0k, 1.23M, 7.50B."""
  size, letter = abs(number), ""
  for limit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
    if size >= limit * 0.9995:
      number, letter = number / limit, name
      break
  digits = 0 if not letter else max(0, 2 - int(math.log10(abs(number) + 1e-3)))
  return f"{number:.{digits}f}{letter}"


def clock(seconds: float) -> str:
  """Seconds as on a stop watch: 0:07, 12:05, 3:02:11."""
  whole = round(seconds)
  hours, minutes = whole // 3600, whole // 60 % 60
  return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def duration(seconds: float) -> str:
  """Seconds in words: 0.42 s, 12.1 s, 4 min 05 s, 3 h 12 min."""
  if seconds < 59.95:
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
  minutes = round(seconds) // 60
  if minutes < 60:
    return f"{minutes} min {round(seconds) % 60:02} s"
  minutes = round(seconds / 60)
  return f"{minutes // 60} h {minutes % 60:02} min"


def share(part: float) -> str:
  """A fraction of one as a percentage: 0.1 %, 31 %."""
  percent = 100 * part
  return f"{percent:.1f} %" if 0 < abs(percent) < 9.95 else f"{percent:.0f} %"


def size(number: float) -> str:
  """Bytes in binary units: 512 B, 1.50 MiB."""
  units = ["TiB", "GiB", "MiB", "KiB", "B"]
  while abs(number) >= 1000 and len(units) > 1:
    number /= 1024
    units.pop()
  whole = units[-1] == "B" or abs(number) >= 100
  return f"{number:.0f} {units[-1]}" if whole else f"{number:.3g} {units[-1]}"


def loss(number: float) -> str:
  """A loss with as many digits as it deserves: 2.310, 1.23e+04, nan."""
  return f"{number:.3f}" if abs(number) < 1000 else f"{number:.3g}"
