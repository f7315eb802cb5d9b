from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from mtm.data import cached, pool
from mtm.data._tensorflow import seqio
from mtm.data.pipeline import Dataset
from mtm.errors import UserError
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.mlm import MaskedLM
from mtm.objectives.prefix_lm import PrefixLM
from mtm.objectives.seq2seq import Seq2Seq
from mtm.objectives.span_corruption import SpanCorruption
from tests.data.toy import EOS, VOCAB, add_task, documents

pytestmark = pytest.mark.usefixtures("tasks")

SPANS = {"inputs": 32, "targets": 12}
CASES = [
  (CausalLM(), {"targets": 24}),
  (SpanCorruption(), SPANS),
  (MaskedLM(), {"targets": 24}),
  (PrefixLM(), {"inputs": 10, "targets": 14}),
  (Seq2Seq(), {"inputs": 24, "targets": 24}),
]
NAMES = [type(objective).__name__ for objective, _ in CASES]


@pytest.fixture(autouse=True)
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
  """So that a stream does not hold four thousand rows before it gives one."""
  monkeypatch.setattr(pool, "MOST", 128)


def read(batches, n):
  return [next(batches) for _ in range(n)]


def assert_same(these, those):
  assert len(these) == len(those)
  for a, b in zip(these, those, strict=True):
    assert set(a) == set(b)
    for name in a:
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def texts(batches):
  """The packed segments of decoder targets, as a sorted list of lists."""
  found = []
  for batch in batches:
    for ids, segments in zip(
      batch["decoder_target_tokens"], batch["decoder_segment_ids"], strict=True
    ):
      found += [ids[segments == s].tolist() for s in range(1, segments.max(initial=0) + 1)]
  return sorted(found)


@pytest.mark.parametrize("objective, lengths", CASES, ids=NAMES)
def test_a_restored_stream_goes_on_bit_identically(three, objective, lengths):
  data = Dataset(three, lengths, batch_size=4)
  whole = read(data.batches(objective, prefetch=0), 24)
  for stop, ahead, then in ((0, 3, 0), (1, 0, 2), (7, 2, 0), (16, 1, 5)):
    first = data.batches(objective, prefetch=ahead)
    assert_same(read(first, stop), whole[:stop])
    state = json.loads(json.dumps(first.state()))
    first.close()
    second = data.batches(objective, prefetch=then)
    second.restore(state)
    assert second.state() == state
    assert_same(read(second, 24 - stop), whole[stop:])
    second.close()


def test_a_stream_without_cache_is_restored_too(three, tmp_path):
  data = Dataset(three, SPANS, batch_size=4, use_cached=False)
  first = data.batches(SpanCorruption(), prefetch=0)
  read(first, 5)
  state = json.loads(json.dumps(first.state()))
  wanted = read(first, 3)
  second = data.batches(SpanCorruption())
  second.restore(state)
  assert_same(read(second, 3), wanted)
  second.close()
  assert not list(tmp_path.iterdir())


def test_the_state_is_that_of_the_batches_handed_out_whatever_was_made_ahead(three):
  data = Dataset(three, SPANS, batch_size=4)
  states = []
  for ahead in (0, 1, 6):
    batches = data.batches(SpanCorruption(), prefetch=ahead)
    told = [batches.state()]
    for _ in range(5):
      next(batches)
      told.append(batches.state())
    batches.close()
    states.append(told)
  assert states[0] == states[1] == states[2]
  assert len({json.dumps(state) for state in states[0]}) == 6


def test_restoring_backwards_within_one_object_repeats(three):
  batches = Dataset(three, SPANS, batch_size=4).batches(SpanCorruption())
  read(batches, 2)
  state = batches.state()
  wanted = read(batches, 3)
  batches.restore(state)
  assert_same(read(batches, 3), wanted)
  batches.close()


@pytest.mark.parametrize("change", ["split", "seed", "shuffle", "pack", "lengths", "task", "rates"])
def test_the_state_of_other_data_is_refused(three, change):
  data = Dataset(three, SPANS, batch_size=4)
  state = data.batches(SpanCorruption()).state()
  changed = {
    "split": {"split": "validation"},
    "seed": {"seed": 1},
    "shuffle": {"shuffle": False},
    "pack": {"pack": False},
    "lengths": {"task_feature_lengths": {"inputs": 40, "targets": 12}},
    "task": {"mixture_or_task_name": "toy_b"},
    "rates": {"mixture_or_task_name": "toy_other"},
  }[change]
  seqio().MixtureRegistry.add("toy_other", [("toy_a", 5.0), ("toy_b", 2.5), ("toy_c", 2.0)])
  import dataclasses

  other = dataclasses.replace(data, **changed).batches(SpanCorruption())
  with pytest.raises(UserError, match="state is of other data"):
    other.restore(state)


def test_the_state_of_other_examples_is_refused():
  from tests.data.toy import registered

  states = []
  for count in (5, 6):
    with registered():
      add_task("toy_a", documents(count, 1, 9))
      batches = Dataset("toy_a", {"targets": 16}, batch_size=2).batches(CausalLM())
      states.append(batches.state())
  with pytest.raises(UserError, match="tokens was"):
    batches.restore(states[0])


@pytest.mark.parametrize("state", [{}, {"of": 3}, {"of": {}, "batches": "x", "choices": 1}])
def test_a_damaged_state_is_refused(three, state):
  with pytest.raises(UserError, match="damaged|other data"):
    Dataset(three, SPANS).batches(SpanCorruption()).restore(state)


@pytest.mark.parametrize("objective, lengths", CASES, ids=NAMES)
def test_shapes_are_known_without_data(three, objective, lengths):
  data = Dataset(three, lengths, batch_size=4)
  batch = next(data.batches(objective, prefetch=0))
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == data.shapes(objective)
  assert Dataset("no_such_task", lengths, batch_size=4).shapes(objective) == data.shapes(objective)


@pytest.mark.parametrize("use_cached", [True, False])
@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_holds_every_document_once(pack, shuffle, use_cached):
  ids = documents(30, 1, 12)
  add_task("toy_a", ids)
  data = Dataset(
    "toy_a", {"targets": 16}, "train", 4, pack, shuffle, use_cached=use_cached, num_epochs=2
  )
  batches = list(data.batches(CausalLM()))
  assert texts(batches) == sorted([[*i, EOS] for i in ids] * 2)
  assert all(len(b["decoder_target_tokens"]) == 4 for b in batches)
  if not pack:
    assert len(batches) == 15 and all(b["decoder_segment_ids"].max() == 1 for b in batches)


def test_long_documents_are_split_and_none_of_their_tokens_is_lost():
  ids = documents(9, 30, 70)
  add_task("toy_a", ids)
  data = Dataset("toy_a", {"targets": 16}, batch_size=4, num_epochs=1)
  found = texts(data.batches(CausalLM()))
  assert sorted(t for piece in found for t in piece) == sorted(t for i in ids for t in [*i, EOS])


def test_every_task_of_a_finite_mixture_is_read_to_its_end(three):
  data = Dataset(three, {"inputs": 99, "targets": 99}, batch_size=4, num_epochs=1)
  batches = data.batches(Seq2Seq())
  assert len(texts(batches)) == 44
  assert {n: p["examples"] for n, p in batches.proportions().items()} == {
    "toy_a": 20,
    "toy_b": 15,
    "toy_c": 9,
  }


def test_the_last_batch_is_padded_with_rows_of_zeros():
  add_task("toy_a", [[5, 6], [7], [8]])
  data = Dataset("toy_a", {"targets": 4}, batch_size=2, pack=False, shuffle=False, num_epochs=1)
  last = list(data.batches(CausalLM()))[-1]
  np.testing.assert_array_equal(last["decoder_target_tokens"], [[8, EOS, 0, 0], [0, 0, 0, 0]])
  np.testing.assert_array_equal(last["decoder_loss_weights"], [[1, 1, 0, 0], [0, 0, 0, 0]])


def test_num_batches_counts_across_a_restore(three):
  data = Dataset(three, SPANS, batch_size=4, num_batches=5)
  first = data.batches(SpanCorruption())
  read(first, 2)
  second = data.batches(SpanCorruption())
  second.restore(first.state())
  assert len(list(second)) == 3
  first.close()


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_hand_out_the_rows_of_one_global_batch(three, hosts):
  data = Dataset(three, SPANS, batch_size=8)
  whole = read(data.batches(SpanCorruption(), prefetch=0), 3)
  streams = [data.batches(SpanCorruption(), (i, hosts), prefetch=0) for i in range(hosts)]
  parts = [read(stream, 3) for stream in streams]
  joined = [{k: np.concatenate([p[i][k] for p in parts]) for k in whole[i]} for i in range(3)]
  assert_same(joined, whole)
  assert all(stream.state() == streams[0].state() for stream in streams)
  streams[1].restore(streams[0].state())


def test_realised_proportions_are_exact(three):
  batches = Dataset(three, {"targets": 24}, batch_size=16).batches(CausalLM())
  read(batches, 40)
  told = batches.proportions()
  examples = [p["examples"] for p in told.values()]
  assert sum(examples) == batches.state()["choices"] - sum(
    batches.state()["streams"][n][0] for n in told
  )  # a choice that met the end of an epoch gave no example
  for p, rate in zip(told.values(), (5.0, 2.5, 1.0), strict=True):
    assert p["rate"] == pytest.approx(rate / 8.5)
    assert p["realised"] == p["examples"] / sum(examples)
  batches.close()


def test_tokens_tell_the_domain_of_their_task_and_the_order_of_domains_is_the_users(three):
  data = Dataset(three, {"targets": 96}, batch_size=4, domains=("toy_c", "toy_a", "toy_b"))
  batches = data.batches(CausalLM())
  known = {split: set() for split in range(3)}
  for batch in read(batches, 6):
    labels, segments = batch["decoder_domain"], batch["decoder_segment_ids"]
    assert ((labels == -1) == (segments == 0)).all()
    for row, segment in zip(labels, segments, strict=True):
      for piece in range(1, segment.max() + 1):
        (label,) = set(row[segment == piece])
        known[label].add(int((segment == piece).sum()))
  batches.close()
  # Documents of toy_a have at most 10 tokens with their end, of toy_b at most 31, of toy_c 91.
  assert max(known[1]) <= 10 < min(known[2]) and max(known[2]) <= 31 < min(known[0])
  assert "decoder_domain" in data.shapes(CausalLM())


def test_masks_are_new_in_every_epoch_unless_static():
  add_task("toy_a", documents(4, 20, 20))
  for objective, same in ((MaskedLM(dynamic=False), True), (MaskedLM(), False)):
    data = Dataset("toy_a", {"targets": 21}, batch_size=4, shuffle=False, num_epochs=2)
    one, two = list(data.batches(objective))
    np.testing.assert_array_equal(one["encoder_target_tokens"], two["encoder_target_tokens"])
    assert (one["encoder_loss_weights"] == two["encoder_loss_weights"]).all() == same


def test_an_examples_mask_does_not_depend_on_its_company(three):
  alone = Dataset("toy_c", SPANS, batch_size=4, shuffle=False, num_epochs=1)
  mixed = Dataset(three, SPANS, batch_size=4, shuffle=True, num_epochs=1)
  pieces = texts(mixed.batches(SpanCorruption()))
  assert all(piece in pieces for piece in texts(alone.batches(SpanCorruption())))


def test_the_cache_is_made_once_and_again_when_the_task_changes(monkeypatch):
  from tests.data.toy import registered

  built = []
  build = cached.build
  monkeypatch.setattr(cached, "build", lambda *a: built.append(a[0]) or build(*a))
  for ids in ([[5, 6]], [[5, 6]], [[5, 7]]):
    with registered():
      add_task("toy_a", ids)
      data = Dataset("toy_a", {"targets": 4}, batch_size=1, num_epochs=1)
      assert texts(data.batches(CausalLM())) == [[*ids[0], EOS]]
  assert len(built) == 2 and built[0] != built[1]


def test_a_damaged_cache_is_made_again(tmp_path):
  add_task("toy_a", [[5, 6]])
  data = Dataset("toy_a", {"targets": 4}, batch_size=1, num_epochs=1)
  wanted = texts(data.batches(CausalLM()))
  for file in pathlib.Path(tmp_path).rglob("targets.ids"):
    file.write_bytes(b"")
  assert texts(data.batches(CausalLM())) == wanted


def test_ids_that_rotted_in_the_cache_are_told(tmp_path):
  add_task("toy_a", [[5, 6]])
  data = Dataset("toy_a", {"targets": 4}, batch_size=1, num_epochs=1)
  list(data.batches(CausalLM()))
  for file in pathlib.Path(tmp_path).rglob("targets.ids"):
    file.write_bytes(np.array([5, 9999, 1], np.uint16).tobytes())
  with pytest.raises(UserError, match="holds the id 9999, and the vocabulary ends at 299"):
    list(data.batches(CausalLM()))


def test_examples_come_one_by_one_with_what_the_task_left_in_them():
  def read_text(split, shuffle_files):
    from mtm.data._tensorflow import tensorflow

    return tensorflow().data.Dataset.from_tensor_slices(
      {"inputs": ["ab", "c"], "targets": ["d", "e"]}
    )

  feature = seqio().Feature(seqio().ByteVocabulary())
  seqio().TaskRegistry.add(
    "toy_text",
    source=seqio().FunctionDataSource(read_text, splits=["train"]),
    preprocessors=[seqio().preprocessors.tokenize, seqio().preprocessors.append_eos],
    output_features={"inputs": feature, "targets": feature},
    metric_fns=[],
  )
  data = Dataset("toy_text", {"inputs": 9, "targets": 9})
  one, two = data.examples()
  assert (one["inputs_pretokenized"], two["targets_pretokenized"]) == ("ab", "e")
  assert one["inputs"].tolist() == [100, 101, EOS]  # a byte's id is 3 more
  assert len(list(data.examples(limit=1))) == 1
  assert data.vocabulary().vocab_size == 259
  assert data.token_bytes().sum() == 256


def test_the_bytes_of_mere_numbers_are_unknowable():
  add_task("toy_a", [[5]])
  data = Dataset("toy_a", {"targets": 4})
  assert data.token_bytes() is None and data.vocabulary().vocab_size == VOCAB


@pytest.mark.parametrize(
  "fields, objective, told",
  [
    ({"mixture_or_task_name": "toy_thre"}, SpanCorruption(), "did you mean 'toy_three'"),
    ({"split": "tran"}, SpanCorruption(), "did you mean 'train'"),
    ({"module": "no_such_module_here"}, SpanCorruption(), "no_such_module_here"),
    ({"task_feature_lengths": {"inputs": 32}}, SpanCorruption(), "lacks 'targets'"),
    ({"mixture_or_task_name": "toy_lm"}, Seq2Seq(), "task 'toy_lm'.*needs the feature 'inputs'"),
    ({"mixture_or_task_name": "toy_mixed"}, SpanCorruption(), "different vocabularies"),
    ({"mixture_or_task_name": "toy_empty"}, SpanCorruption(), "the dataset is empty"),
    ({"batch_size": 0}, SpanCorruption(), "batch_size = 0"),
    ({"domains": ["toy_a", "toy_c"]}, SpanCorruption(), "'toy_b' is none of the domains"),
  ],
)
def test_bad_input_is_told_in_one_sentence(three, fields, objective, told):
  add_task("toy_lm", [[5]])
  add_task("toy_empty", [])
  bytes_ = seqio().ByteVocabulary()
  add_task("toy_bytes", [[5]], vocabulary=bytes_)
  seqio().MixtureRegistry.add("toy_mixed", [("toy_lm", 1.0), ("toy_bytes", 1.0)])
  arguments = {"mixture_or_task_name": three, "task_feature_lengths": SPANS} | fields
  with pytest.raises(UserError, match=told) as raised:
    next(Dataset(**arguments).batches(objective))
  assert "\n" not in str(raised.value)


def test_hosts_that_do_not_divide_the_batch_are_told(three):
  with pytest.raises(UserError, match="batch_size = 8 does not divide among 3 hosts"):
    Dataset(three, SPANS, batch_size=8).batches(SpanCorruption(), (0, 3))
