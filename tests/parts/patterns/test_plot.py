"""The picture of a pattern shows its mask."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from mtm.parts.patterns import plot, published
from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL
from mtm.parts.patterns.causal import Causal


def test_the_picture_is_the_mask_and_the_blocks_behind_it() -> None:
  pattern = Causal() & published.longformer(4, 1)
  image = np.asarray(plot(pattern, 16, block=4).images[0].get_array())
  place = np.arange(16)
  mask = pattern.mask(place[:, None], place[None])
  np.testing.assert_array_equal(image == FULL, mask)
  touched = np.kron(pattern.block_map(16, 16, 4), np.ones((4, 4))) != EMPTY
  np.testing.assert_array_equal(image == PARTIAL, touched & ~mask)
  plt.close("all")


def test_heads_that_differ_have_pictures_of_their_own() -> None:
  axes = plot(published.sparse_strided_by_head(4, 3), 12)
  assert [ax.get_title() for ax in axes] == ["heads 0", "heads 1, 2"]
  plt.close("all")
