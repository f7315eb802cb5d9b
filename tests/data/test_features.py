from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtm.data.features import Layout, Piece


def piece(*columns):
  return Piece((0, 0, 0, 0), tuple(np.asarray(c, np.int32) for c in columns))


def test_a_row_written_by_hand():
  layout = Layout({"decoder": 6}, ("decoder_target_tokens",))
  batch = layout.assemble([[piece([5, 6, 1]), piece([7, 1])], [piece([8])]], 3)
  wanted = {
    "decoder_target_tokens": [[5, 6, 1, 7, 1, 0], [8, 0, 0, 0, 0, 0], [0] * 6],
    "decoder_input_tokens": [[0, 5, 6, 0, 7, 0], [0] * 6, [0] * 6],
    "decoder_loss_weights": [[1, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0], [0] * 6],
    "decoder_positions": [[0, 1, 2, 0, 1, 0], [0] * 6, [0] * 6],
    "decoder_segment_ids": [[1, 1, 1, 2, 2, 0], [1, 0, 0, 0, 0, 0], [0] * 6],
  }
  assert set(batch) == set(wanted)
  for name, values in wanted.items():
    np.testing.assert_array_equal(batch[name], values, err_msg=name)
    assert batch[name].dtype == np.int32


def test_every_piece_begins_with_the_begin_id():
  plain = Layout({"decoder": 6}, ("decoder_target_tokens",))
  layout = Layout({"decoder": 6}, ("decoder_target_tokens",), begin_id=9)
  rows = [[piece([5, 6, 1]), piece([7, 1])], [piece([8])]]
  batch, before = layout.assemble(rows, 3), plain.assemble(rows, 3)
  found = batch.pop("decoder_input_tokens")
  np.testing.assert_array_equal(found, [[9, 5, 6, 9, 7, 0], [9, 0, 0, 0, 0, 0], [0] * 6])
  assert found.dtype == np.int32
  for name, values in batch.items():
    np.testing.assert_array_equal(values, before[name], err_msg=name)
  assert repr(layout) == repr(plain)  # a saved place in the data stays valid


def test_both_sides_of_a_piece_have_one_segment_id():
  layout = Layout({"encoder": 4, "decoder": 3}, ("encoder_input_tokens", "decoder_target_tokens"))
  batch = layout.assemble([[piece([5], [6, 7]), piece([8, 9, 3], [4])]], 1)
  np.testing.assert_array_equal(batch["encoder_segment_ids"], [[1, 2, 2, 2]])
  np.testing.assert_array_equal(batch["decoder_segment_ids"], [[1, 1, 2]])
  np.testing.assert_array_equal(batch["decoder_input_tokens"], [[0, 6, 0]])


def test_an_empty_side_takes_no_place():
  layout = Layout({"encoder": 4, "decoder": 3}, ("encoder_input_tokens", "decoder_target_tokens"))
  batch = layout.assemble([[piece([], [6]), piece([8], [9])]], 1)
  np.testing.assert_array_equal(batch["encoder_segment_ids"], [[2, 0, 0, 0]])
  np.testing.assert_array_equal(batch["decoder_segment_ids"], [[1, 2, 0]])


def test_columns_that_a_piece_brings_along_are_kept():
  columns = ("encoder_input_tokens", "encoder_target_tokens", "encoder_loss_weights")
  batch = Layout({"encoder": 4}, columns).assemble([[piece([9, 5], [4, 5], [1, 0])]], 1)
  np.testing.assert_array_equal(batch["encoder_input_tokens"], [[9, 5, 0, 0]])
  np.testing.assert_array_equal(batch["encoder_target_tokens"], [[4, 5, 0, 0]])
  np.testing.assert_array_equal(batch["encoder_loss_weights"], [[1, 0, 0, 0]])


def test_no_rows_give_padding():
  layout = Layout({"encoder": 4, "decoder": 3}, ("encoder_input_tokens", "decoder_target_tokens"))
  assert all(not x.any() for x in layout.assemble([], 2).values())


@given(
  st.lists(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=4), max_size=3), max_size=5)
)
def test_a_batch_is_what_a_loop_over_its_pieces_writes(rows):
  layout = Layout({"decoder": 12}, ("decoder_target_tokens",))
  batch = layout.assemble([[piece(ids) for ids in row] for row in rows], 5)
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == layout.shapes(5)
  for r in range(5):
    row = rows[r] if r < len(rows) else []
    told = [(t, p, s + 1) for s, ids in enumerate(row) for p, t in enumerate(ids)]
    told += [(0, 0, 0)] * (12 - len(told))
    names = ("decoder_target_tokens", "decoder_positions", "decoder_segment_ids")
    assert [tuple(batch[n][r, i] for n in names) for i in range(12)] == told


def test_every_token_has_the_label_of_its_task_and_padding_none():
  sides, columns = {"encoder": 4, "decoder": 3}, ("encoder_input_tokens", "decoder_target_tokens")
  layout = Layout(sides, columns, domains=(4, 0))
  first, second = piece([5], [6, 7])._replace(source=(1, 0, 0, 0)), piece([8, 9], [4])
  batch = layout.assemble([[first, second]], 2)
  np.testing.assert_array_equal(batch["encoder_domain"], [[0, 4, 4, -1], [-1] * 4])
  np.testing.assert_array_equal(batch["decoder_domain"], [[0, 0, 4], [-1] * 3])
  assert {name: x.shape for name, x in batch.items()} == {
    name: shape for name, (shape, _) in layout.shapes(2).items()
  }
  assert repr(layout) == repr(Layout(sides, columns))  # a saved place in the data stays valid
