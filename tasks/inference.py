"""Natural language inference and paraphrase, as FLAN (2109.01652) and T0 (2110.08207) have them."""

from __future__ import annotations

from mtm.prompts.prompted import Prompted
from mtm.tasks import _templates, _tfds
from mtm.tasks._tfds import TV, TVT, Fields, Raw, Write

MAYBE = "it is not possible to tell"
INFERENCE = (
  *_templates.numbered(
    "{premise}\nDoes it follow from this that {hypothesis}\n{options}\nAnswer:",
    "Premise: {premise}\nHypothesis: {hypothesis}\nIs the hypothesis true?\n{options}\n",
    "Read the text and say whether the sentence after it is right.\nText: {premise}\n"
    "Sentence: {hypothesis}\n{options}\nAnswer:",
    'Suppose "{premise}" Can we conclude "{hypothesis}"?\n{options}\nAnswer:',
    "{premise}\n\nQuestion: {hypothesis} Is that so?\n{options}\nAnswer:",
    "Given that {premise}\nIs it certain that {hypothesis}\n{options}\n",
    "{options}\nWhich of these fits?\nFact: {premise}\nClaim: {hypothesis}\nIt is:",
    "User: I know this: {premise} May I say this: {hypothesis}\n{options}\nAssistant:",
    "{premise}\nBased on this, is the following true: {hypothesis}\n{options}\nAnswer:",
  ),
  *_templates.numbered(
    'Text: {premise}\nWrite a claim of which "does it follow?" has the answer "{answer}".\n',
    prefix="turned", targets="{hypothesis}", original=False,
  ),
)  # fmt: skip
ANSWERS = (
  *_templates.numbered(
    "Question: {question}\nSentence: {sentence}\nDoes the sentence answer it?\n{options}\n",
    '"{sentence}" Does this tell us the answer to "{question}"?\n{options}\nAnswer:',
    "{question}\nCan we find the answer here: {sentence}\n{options}\nAnswer:",
    "Say whether the text has the answer.\n{question}\nText: {sentence}\n{options}\nAnswer:",
    "Text: {sentence}\nIs it enough to answer this: {question}\n{options}\n",
    "Q: {question}\nA: {sentence}\nIs the question answered?\n{options}\nIt is answered:",
    "{options}\nDoes {sentence} answer {question}\n",
    "User: I ask: {question} and read: {sentence} Do I know now?\n{options}\nAssistant:",
    "Sentence: {sentence}\nQuestion: {question}\nAnswered?\n{options}\nAnswer:",
  ),
  *_templates.numbered(
    "Sentence: {sentence}\nWrite a question; is it answered by the sentence? {answer}.\n",
    prefix="turned", targets="{question}", original=False,
  ),
)  # fmt: skip
PARAPHRASE = (
  *_templates.numbered(
    "{sentence1}\n{sentence2}\nDo the two sentences mean the same?\n{options}\nAnswer:",
    "First: {sentence1}\nSecond: {sentence2}\nDo both say the same?\n{options}\n",
    'Is "{sentence1}" another way to say "{sentence2}"?\n{options}\nAnswer:',
    "Do these say the same thing?\n1. {sentence1}\n2. {sentence2}\n{options}\nAnswer:",
    "{sentence1}\nCan it be replaced by this: {sentence2}\n{options}\n",
    "Compare.\nA: {sentence1}\nB: {sentence2}\nAre A and B equal in meaning?\n{options}\nAnswer:",
    "{options}\nSame meaning?\n{sentence1}\n{sentence2}\nAnswer:",
    "User: Is it a repetition to say {sentence1} and then {sentence2}\n{options}\nAssistant:",
    "Text one: {sentence1}\nText two: {sentence2}\nSame content?\n{options}\nAnswer:",
  ),
  *_templates.numbered(
    "{sentence1}\nWrite a similar sentence; does it mean the same? {answer}.\n",
    prefix="turned", targets="{sentence2}", original=False,
  ),
)  # fmt: skip
SIMILARITY = _templates.numbered(
  "{sentence1}\n{sentence2}\nHow similar are they, from 0 (not at all) to 5?\n{options}\nAnswer:",
  "Rate how close two meanings are, from 0 to 5.\n{sentence1}\n{sentence2}\n{options}\n",
  'On a scale from 0 to 5, how alike are "{sentence1}" and "{sentence2}"?\n{options}\nAnswer:',
  "A: {sentence1}\nB: {sentence2}\nSimilarity (5 is equal):\n{options}\nIt is",
  "Do {sentence1} and {sentence2} say the same? 5 means yes, 0 no.\n{options}\n",
  "Sentence one: {sentence1}\nSentence two: {sentence2}\nA number for likeness:\n{options}\n",
  "{options}\nGrade the similarity.\n{sentence1}\n{sentence2}\nGrade:",
  "User: How similar? {sentence1} / {sentence2}\n{options}\nAssistant:",
  "First: {sentence1}\nSecond: {sentence2}\nPoints for likeness, at most 5:\n{options}\nPoints:",
  "Compare these, and give 0 to 5 points.\n{sentence1}\n{sentence2}\n{options}\nPoints:",
)


def similarity(raw: Raw) -> dict[str, object]:
  """STS-B: the score, from 0 to 5, to the nearest whole number; -1 where it is hidden."""
  return {
    "sentence1": raw["sentence1"], "sentence2": raw["sentence2"], "choices": list("012345"),
    "gold": round(raw["label"]) if raw["label"] >= 0 else -1,
  }  # fmt: skip


def pair(first: str, second: str, *choices: str, names: tuple[str, str]) -> Fields:
  """Two texts under our `names`, and a label."""
  return Fields(dict(zip(names, (first, second), strict=True)), choices)


def nli(first: str, second: str, *choices: str) -> Fields:
  """A premise, a hypothesis and a label."""
  return pair(first, second, *choices, names=("premise", "hypothesis"))


_SAME = ("sentence1", "sentence2")
_HYPOTHESIS = ("premise", "hypothesis")
_MNLI = {"train": "train", "validation": "validation_matched", "test": "validation_mismatched"}
_ANLI: Write = nli("context", "hypothesis", "yes", MAYBE, "no")
_THREE: Write = nli(*_HYPOTHESIS, "yes", MAYBE, "no")

SETS: tuple[Prompted, ...] = (
  *(
    _tfds.made(f"anli_{r}", "nli", f"anli/{r}:0.1.0", _ANLI, INFERENCE, TVT)
    for r in ("r1", "r2", "r3")
  ),
  *(
    _tfds.made(name, "nli", tfds_name, write, INFERENCE, splits)
    for name, tfds_name, write, splits in (
      ("cb", "super_glue/cb:1.0.2", nli(*_HYPOTHESIS, "yes", "no", MAYBE), TV),
      ("mnli", "glue/mnli:2.0.0", _THREE, _MNLI),
      ("rte", "super_glue/rte:1.0.2", nli(*_HYPOTHESIS, "yes", "no"), TV),
      ("snli", "snli:1.1.0", _THREE, TVT),
      ("wnli", "glue/wnli:2.0.0", nli(*_SAME, "no", "yes"), TV),
    )
  ),
  _tfds.made(
    "qnli", "nli", "glue/qnli:2.0.0",
    pair("question", "sentence", "yes", "no", names=("question", "sentence")), ANSWERS,
  ),
  *(
    _tfds.made(name, "paraphrase", tfds_name, pair(*theirs, "no", "yes", names=_SAME), PARAPHRASE,
               splits)
    for name, tfds_name, theirs, splits in (
      ("mrpc", "glue/mrpc:2.0.0", _SAME, TVT),
      ("qqp", "glue/qqp:2.0.0", ("question1", "question2"), TV),
      ("paws", "paws_wiki/labeled_final_raw:1.1.0", _SAME, TVT),
    )
  ),
  _tfds.made("stsb", "paraphrase", "glue/stsb:2.0.0", similarity, SIMILARITY),
)  # fmt: skip
