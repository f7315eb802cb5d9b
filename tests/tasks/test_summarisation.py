"""CNN/Daily Mail as T5 writes it."""

from __future__ import annotations

from tests.tasks import mocked


def test_the_task_resolves_and_preprocesses():
  mocked.check("cnn_dailymail_v002")


def test_the_article_is_asked_to_be_summarised():
  (example, *_) = mocked.examples("cnn_dailymail_v002", article="Long.", highlights="Short.")
  assert example["inputs_pretokenized"] == "summarize: Long."
  assert example["targets_pretokenized"] == "Short."
