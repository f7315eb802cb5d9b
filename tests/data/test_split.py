"""What the pipeline asks of a split, without SeqIO."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.data.sources import stdlib
from mtm.data.split import word_starts
from mtm.data.vocabulary import Bytes
from mtm.errors import UserError


def test_words_begin_where_sentencepiece_says() -> None:
  vocabulary = stdlib.vocabulary()
  starts = word_starts(vocabulary)
  assert starts.shape == (vocabulary.vocab_size,) and starts.dtype == np.bool_
  ids = vocabulary.encode("def words(self):")
  words = "".join(vocabulary.pieces()[i] for i in ids).count("▁")
  assert starts[ids].sum() == words == 1


def test_words_need_sentencepiece() -> None:
  with pytest.raises(UserError, match="whole-word.*Bytes does not tell"):
    word_starts(Bytes())
