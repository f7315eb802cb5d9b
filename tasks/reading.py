"""Questions: closed-book, about a text, and with choices; FLAN's clusters (2109.01652) and T0's
(2110.08207)."""

from __future__ import annotations

from mtm.prompts.prompted import Prompted
from mtm.tasks import _templates, _tfds
from mtm.tasks._tfds import TV, TVT, Fields, Raw, at

CLOSED = (
  *_templates.open_questions()[:9],
  *_templates.numbered(
    "Ask a question whose answer is {answer}.\n",
    prefix="turned", targets="{question}", original=False,
  ),
)  # fmt: skip
SPAN = (
  *_templates.numbered(
    "{context}\n\nQuestion: {question}\nAnswer:",
    "Read this and answer.\n{context}\n{question}\n",
    "{question}\nThe answer is in this text: {context}\nAnswer:",
    "Text: {context}\nQ: {question}\nA:",
    "Answer by words of the text.\n{context}\n\n{question}\nAnswer:",
    "Use the passage below to find out: {question}\n\n{context}\n\nFound:",
    "{context}\nAfter reading that, {question}\n",
    "User: {context} {question}\nAssistant:",
    "Passage\n{context}\n\nQuestion\n{question}\n\nAnswer\n",
  ),
  *_templates.numbered(
    "{context}\nAsk a question about this text to which the answer is: {answer}\n",
    prefix="turned", targets="{question}", original=False,
  ),
)  # fmt: skip
CHOSEN = (
  *_templates.numbered(
    "{context}\n\nQuestion: {question}\n{options}\nAnswer:",
    "Read this and choose.\n{context}\n{question}\n{options}\n",
    "{question}\nThe text says: {context}\n{options}\nAnswer:",
    "Text: {context}\nQ: {question}\n{options}\nA:",
    "{options}\nWhich of these answers the question about the text?\n{context}\n{question}\n",
    "Use the passage to find out: {question}\n\n{context}\n\n{options}\nFound:",
    "{context}\nAfter reading that, {question}\n{options}\n",
    "User: {context} {question}\n{options}\nAssistant:",
    "Passage\n{context}\n\nQuestion\n{question}\n\n{options}\n\nAnswer\n",
  ),
  *_templates.numbered(
    "{context}\nAsk a question about this text to which the answer is: {answer}\n",
    prefix="turned", targets="{question}", original=False,
  ),
)  # fmt: skip
RIGHT = _templates.numbered(
  "{context}\n\nQuestion: {question}\nIs this right: {candidate}\n{options}\nAnswer:",
  "{context}\n{question}\nSomebody answers: {candidate}\nCorrect?\n{options}\n",
  "Mark the answer.\nText: {context}\nQuestion: {question}\nAnswer: {candidate}\n{options}\nMark:",
  "{question} {candidate}\nDoes the text say so?\n{context}\n{options}\nAnswer:",
  "{options}\nIs {candidate} an answer to {question} in this text?\n{context}\n",
  "Q: {context} {question} Is it {candidate}?\n{options}\nA:",
  "Passage: {context}\nClaim: the answer to {question} is {candidate}.\n{options}\nThe claim:",
  "User: {context} {question} I say {candidate}. Right?\n{options}\nAssistant:",
  "{context}\nJudge: {question} {candidate}\n{options}\nJudgement:",
  "Text\n{context}\n\nQuestion\n{question}\n\nProposal\n{candidate}\n\n{options}\nRight?\n",
)
ENTITY = _templates.numbered(
  "{context}\n\nWhich name belongs at @placeholder?\n{query}\n{options}\nAnswer:",
  "{context}\nFill the gap @placeholder.\n{query}\n{options}\n",
  "Read: {context}\nIn the next sentence, who is @placeholder? {query}\n{options}\nIt is",
  "{query}\n@placeholder is somebody or something in this text: {context}\n{options}\nAnswer:",
  "{options}\nOne of these is @placeholder.\n{context}\n{query}\n",
  "Q: {context} {query} What is @placeholder?\n{options}\nA:",
  "News: {context}\nSentence: {query}\nReplace @placeholder.\n{options}\nReplacement:",
  "User: {context} {query} Who is meant by @placeholder?\n{options}\nAssistant:",
  "{context}\n\n{query}\n\n{options}\n@placeholder =",
  "Complete the sentence by a name of the text.\n{context}\n{query}\n{options}\nName:",
)


def chosen(
  question: str, options: str | tuple[str, ...], gold: str = "label", **texts: str
) -> Fields:
  """A question with choices, which `texts` may give a context."""
  return Fields({"question": question, **texts}, options=options, gold=gold)


def spans(context: str, question: str, answers: str) -> Fields:
  """A question that words of the context answer."""
  return Fields({"context": context, "question": question}, answer=answers)


def closed(question: str, answers: str) -> Fields:
  """A question without a text."""
  return Fields({"question": question}, answer=answers)


class Keyed:
  """Choices that are labelled, by letters or numbers, and a key that names one.

  Args:
    texts: our field → theirs.
    key: their field of the right label.
    choices: their field of `text` and `label`.
  """

  def __init__(self, key: str = "answerKey", choices: str = "choices", **texts: str) -> None:
    self.key, self.choices, self.texts = key, choices, texts

  def __call__(self, raw: Raw) -> dict[str, object]:
    labels = at(raw, f"{self.choices}/label")
    key = raw[self.key]
    return {
      **{ours: at(raw, theirs) for ours, theirs in self.texts.items()},
      "choices": at(raw, f"{self.choices}/text"),
      "gold": labels.index(key) if key in labels else -1,
    }


def trivia(raw: Raw) -> dict[str, object] | None:
  """TriviaQA: the value first, then its aliases; hidden ones are left out."""
  answer = raw["answer"]
  answers = list(dict.fromkeys([answer["value"], *answer["aliases"]]))
  return {"question": raw["question"], "answers": answers} if answer["value"] else None


def open_book(raw: Raw) -> dict[str, object]:
  """OpenBookQA with its fact."""
  stem = raw["question"]
  choices = [stem[f"choice_{letter}"] for letter in "ABCD"]
  key = raw["answerKey"]
  gold = key if isinstance(key, int) else "ABCD".index(key)
  return {"context": raw["fact1"], "question": stem["stem"], "choices": choices, "gold": gold}


def discrete(raw: Raw) -> dict[str, object]:
  """DROP."""
  answers = [raw["answer"], *raw["validated_answers"]]
  return {"context": raw["passage"], "question": raw["question"], "answers": [
    answer for answer in dict.fromkeys(answers) if answer
  ]}  # fmt: skip


def entity(raw: Raw) -> dict[str, object] | None:
  """ReCoRD: its first answer among the entities."""
  answers, choices = raw["answers"], list(dict.fromkeys(raw["entities"]))
  gold = choices.index(answers[0]) if answers and answers[0] in choices else -1
  context = raw["passage"].replace("\n@highlight\n", " ")
  return {"context": context, "query": raw["query"], "choices": choices, "gold": gold}


def dream(raw: Raw) -> dict[str, object]:
  """DREAM: a dialogue; the answer is told as a text."""
  return {
    "context": "\n".join(raw["dialogue"]), "question": raw["question"], "choices": raw["choice"],
    "answer": raw["answer"],
  }  # fmt: skip


def social(raw: Raw) -> dict[str, object]:
  """Social IQa: labels are the texts "1" to "3"."""
  return {
    "context": raw["context"], "question": raw["question"],
    "choices": [raw[f"answer{letter}"] for letter in "ABC"], "gold": int(raw["label"]) - 1,
  }  # fmt: skip


def process(raw: Raw) -> dict[str, object]:
  """WIQA: the steps of a process."""
  made = Keyed("answer_label", question="question_stem")(raw)
  return {**made, "context": " ".join(step.strip() for step in raw["question_para_step"])}


def science(raw: Raw) -> dict[str, object]:
  """SciQ: the right answer among three others, by alphabet."""
  others = [raw[f"distractor{n}"] for n in (1, 2, 3)]
  choices = sorted([raw["correct_answer"], *others])
  return {
    "context": raw["support"], "question": raw["question"], "choices": choices,
    "answer": raw["correct_answer"],
  }  # fmt: skip


def worlds(raw: Raw) -> dict[str, object]:
  """QuaRel: two worlds to choose from."""
  literals = raw["world_literals"]
  choices = [literals["world1"][0], literals["world2"][0]]
  return {"question": raw["question"], "choices": choices, "gold": raw["answer_index"]}


def hops(raw: Raw) -> dict[str, object]:
  """WikiHop: several texts, and a relation with its subject."""
  relation, _, subject = raw["question"].partition(" ")
  return {
    "context": "\n".join(raw["supports"]), "choices": raw["candidates"], "answer": raw["answer"],
    "question": f"What is the {relation.replace('_', ' ')} of {subject}?",
  }  # fmt: skip


def situation(raw: Raw) -> dict[str, object]:
  """ROPES: background and situation."""
  return {
    "context": f"{raw['background']}\n{raw['situation']}", "question": raw["question"],
    "answers": at(raw, "answers/text"),
  }  # fmt: skip


def wiki_answer(raw: Raw) -> dict[str, object] | None:
  """WikiQA: sentences that answer; the others are left out."""
  return {"question": raw["question"], "answer": raw["answer"]} if raw["label"] == 1 else None


_EM, _F1 = ("exact_match",), ("f1",)
_FOUR = ("answer0", "answer1", "answer2", "answer3")
_MULTIRC = Fields(
  {"context": "paragraph", "question": "question", "candidate": "answer"}, ("no", "yes")
)  # fmt: skip
_BOOLQ = Fields({"context": "passage", "question": "question"}, ("no", "yes"))
_WHICH = _templates.choice_questions()
_HF = "huggingface:"
_TEXT = spans("context", "question", "answers/text")


def _sets(cluster: str, metrics: tuple[str, ...], *rows: tuple) -> list[Prompted]:  # type: ignore[type-arg]
  return [
    _tfds.made(name, cluster, tfds_name, write, templates, splits, metrics)
    for name, tfds_name, write, templates, splits in rows
  ]


SETS: tuple[Prompted, ...] = (
  *_sets(
    "closed_book_qa", ("accuracy",),
    ("arc_easy", "ai2_arc/ARC-Easy:1.0.0", Keyed(question="question"), _WHICH, TVT),
    ("arc_challenge", "ai2_arc/ARC-Challenge:1.0.0", Keyed(question="question"), _WHICH, TVT),
  ),
  *_sets(
    "closed_book_qa", _EM,
    ("nq", "natural_questions_open:1.0.0", closed("question", "answer"), CLOSED, TV),
    ("triviaqa", "trivia_qa/unfiltered.nocontext:1.1.0", trivia, CLOSED, TV),
    ("hotpot_qa", f"{_HF}hotpot_qa/fullwiki", closed("question", "answer"), CLOSED, TV),
    ("wiki_qa", f"{_HF}wiki_qa", wiki_answer, CLOSED, TVT),
  ),
  *_sets(
    "reading_comprehension", ("accuracy",),
    ("boolq", "super_glue/boolq:1.0.2", _BOOLQ, CHOSEN, TV),
    ("multirc", "super_glue/multirc:1.0.2", _MULTIRC, RIGHT, TV),
    ("openbookqa", "openbookqa:0.1.0", open_book, CHOSEN, TVT),
  ),
  *_sets(
    "reading_comprehension", _F1,
    ("drop", "drop:2.0.0", discrete, SPAN, {"train": "train", "validation": "dev"}),
    ("squad", "squad/v1.1:3.0.0", _TEXT, SPAN, TV),
    ("adversarial_qa", f"{_HF}adversarial_qa/adversarialQA", _TEXT, SPAN, TV),
    ("quoref", f"{_HF}quoref", _TEXT, SPAN, TV),
    ("ropes", f"{_HF}ropes", situation, SPAN, TV),
    ("duorc", f"{_HF}duorc/ParaphraseRC", spans("plot", "question", "answers"), SPAN, TVT),
  ),
  *_sets(
    "commonsense_reading", ("accuracy",),
    ("cosmos_qa", "cosmos_qa:1.0.0", chosen("question", _FOUR, context="context"), CHOSEN, TV),
    ("record", "super_glue/record:1.0.2", entity, ENTITY, TV),
  ),
  *_sets(
    "multiple_choice_qa", ("accuracy",),
    ("commonsense_qa", f"{_HF}commonsense_qa", Keyed(question="question"), _WHICH, TV),
    ("dream", f"{_HF}dream", dream, CHOSEN, TVT),
    ("quail", f"{_HF}quail",
     chosen("question", "answers", "correct_answer_id", context="context"), CHOSEN,
     {**TV, "test": "challenge"}),
    ("quartz", f"{_HF}quartz", Keyed(question="question", context="para"), CHOSEN, TVT),
    ("social_i_qa", f"{_HF}social_i_qa", social, CHOSEN, TV),
    ("wiqa", f"{_HF}wiqa", process, CHOSEN, TVT),
    ("qasc", "qasc:0.1.0", Keyed(question="question"), _WHICH, TV),
    ("quarel", f"{_HF}quarel", worlds, _WHICH, TVT),
    ("sciq", f"{_HF}sciq", science, CHOSEN, TVT),
    ("wiki_hop", f"{_HF}wiki_hop/original", hops, CHOSEN, TV),
  ),
)  # fmt: skip
