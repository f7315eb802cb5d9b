"""FNet: its sizes and what of its configs is refused; its numbers are in test_recorded.py."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config
from mtm.families.fnet import HF, fnet
from mtm.types import Model
from tests.contracts.discovered import batch_for, parameters


@pytest.mark.parametrize(
  ("model", "wanted"),
  [  # transformers' FNetForMaskedLM without its pooler, 768² + 768 and 1024² + 1024; the paper says
    # 83M and 238M (2105.03824, table 1).
    (fnet(12, 768, 32000), 83_485_184 - 590_592),
    (fnet(24, 1024, 32000), 238_029_056 - 1_049_600),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


def test_packed_documents_are_what_they_are_alone() -> None:
  model = fnet(2, 16, 40, max_length=32, mlp=24)
  batch = batch_for(model, rows=1)
  params = parameters(model.init, batch)
  packed = {
    **batch,
    "encoder_segment_ids": np.array([[1, 1, 1, 2, 2, 2, 2, 2]]),
    "encoder_positions": np.array([[0, 1, 2, 0, 1, 2, 3, 4]]),
  }
  together = jax.jit(model.apply)(params, packed).logits
  for start, end in ((0, 3), (3, 8)):
    own = {name: x[:, start:end] for name, x in packed.items()}
    alone = jax.jit(model.apply)(params, own).logits
    np.testing.assert_allclose(together[:, start:end], alone, rtol=1e-4, atol=1e-4)


def test_its_transform_by_matrices_is_refused() -> None:
  with pytest.raises(UserError, match="use_tpu_fourier_optimizations"):
    HF.arguments(Config({"vocab_size": 37, "use_tpu_fourier_optimizations": True}))
