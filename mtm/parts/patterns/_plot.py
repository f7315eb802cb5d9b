"""A picture of a pattern."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, Pattern

_GREEN, _PALE, _WHITE = "#1b7f5c", "#d9efe6", "#ffffff"


def plot(pattern: Pattern, length: int = 64, block: int | None = None, ax: Any = None) -> Any:
  """Draws who sees whom: queries go down, keys to the right.

  Args:
    pattern: the pattern; of one that reads labels, all that it could show.
    length: queries and keys.
    block: draws the blocks of this size that a sparse kernel looks at behind the pairs, too.
    ax: matplotlib axes to draw on; None: new ones. A pattern by head gets a figure with a picture
      for each different head.

  Returns:
    the axes, or a list of them for a pattern by head.
  """
  import matplotlib.pyplot as plt

  if pattern.by_head is not None and ax is None:
    different = list(dict.fromkeys(pattern.by_head))
    _, axes = plt.subplots(1, len(different), figsize=(3 * len(different), 3), squeeze=False)
    for own, one in zip(axes[0], different, strict=True):
      heads = [h for h, p in enumerate(pattern.by_head) if p == one]
      plot(one, length, block, own).set_title(f"heads {', '.join(map(str, heads))}", fontsize=9)
    return list(axes[0])
  if ax is None:
    _, ax = plt.subplots(figsize=(3, 3))
  place = np.arange(length)
  seen = np.broadcast_to(np.asarray(pattern.mask(place[:, None], place[None])), (length, length))
  shade = np.zeros((length, length))
  if block is not None:
    touched = pattern.block_map(length, length, block) != EMPTY
    shade = np.kron(touched, np.ones((block, block)))[:length, :length] * PARTIAL
  from matplotlib.colors import ListedColormap

  colours = ListedColormap([_WHITE, _PALE, _GREEN])
  image = np.where(seen, FULL, shade)
  ax.imshow(image, cmap=colours, vmin=EMPTY, vmax=FULL, interpolation="nearest")
  ax.set(xlabel="key", ylabel="query", xticks=[0, length - 1], yticks=[0, length - 1])
  ax.set_title(f"{seen.mean():.0%} of all pairs", fontsize=9)
  return ax
