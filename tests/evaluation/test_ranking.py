"""Rules against their formulas, in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.evaluation.ranking import PMI, Calibrated, PerByte, PerToken, Sum
from tests.evaluation.oracle import COLOURS, colours, questions, scored

OWN = [scored(-3.0, 1), scored(-4.0, 2), scored(-6.0, 3)]


def test_sums_and_means_are_over_tokens_and_bytes() -> None:
  (question, *_) = questions(colours())
  assert question.choices == COLOURS
  np.testing.assert_allclose(Sum().scores(question, OWN, []), [-3, -4, -6])
  np.testing.assert_allclose(PerToken().scores(question, OWN, []), [-3, -2, -2])
  np.testing.assert_allclose(PerByte().scores(question, OWN, []), [-1, -4 / 5, -6 / 9])


def test_pmi_asks_the_template_alone_and_subtracts() -> None:
  question = questions(colours(), k=2)[0]
  assert question.inputs.endswith("Colour of thing0?") and len(question.exemplars) > 10
  assert PMI().others(question) == ["Colour of ?"]
  got = PMI().scores(question, OWN, [[scored(-1.0), scored(-3.5), scored(-6.5)]])
  np.testing.assert_allclose(got, [-2, -0.5, 0.5])


def test_calibration_divides_by_the_mean_probabilities_of_questions_without_content() -> None:
  question = questions(colours(), k=1)[0]
  rule = Calibrated(contents=("N/A", ""))
  assert rule.others(question) == [
    f"{question.exemplars}Colour of N/A?", f"{question.exemplars}Colour of ?",
  ]  # fmt: skip
  empty = np.array([[-1.0, -2.0, -3.0], [-2.0, -1.0, -1.5]])
  got = rule.scores(question, OWN, [[scored(x) for x in row] for row in empty])
  p_empty = (np.exp(empty) / np.exp(empty).sum(1, keepdims=True)).mean(0)
  p = np.exp([-3.0, -4.0, -6.0])
  expected = p / p.sum() / p_empty  # W p with W = diag(p_cf)^-1
  np.testing.assert_allclose(np.exp(got), expected, rtol=1e-12)


@pytest.mark.parametrize("bias", [-2.0, 3.0])
def test_calibration_undoes_what_the_prompt_prefers_anyway(bias: float) -> None:
  question = questions(colours())[0]
  tilt = np.array([bias, 0.0, -bias])
  content = np.array([-2.0, -1.0, -3.0])
  own = [scored(x) for x in content + tilt]
  empty = [[scored(x) for x in tilt]]
  assert np.argmax(Calibrated(contents=("",)).scores(question, own, empty)) == 1
