"""Writing: summaries, structure to text, translation and dialogue; FLAN's clusters (2109.01652) and
T0's training sets (2110.08207)."""

from __future__ import annotations

import dataclasses
import string

from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template
from mtm.tasks import _templates, _tfds
from mtm.tasks._tfds import TT, TV, TVT, Fields, Raw, T, Write, at

SUMMARY = (
  *_templates.numbered(
    "{document}\n\nSummary:",
    "Summarise this text.\n{document}\nSummary:",
    "Text: {document}\nIn short:",
    "{document}\nWhat is the gist?\n",
    "Write a short version of the following.\n\n{document}\n\nShort version:",
    "Q: What does this say, in a few words? {document}\nA:",
    "{document}\nTL;DR:",
    "User: Give me the main points of this. {document}\nAssistant:",
    "Article\n{document}\n\nSummary\n",
  ),
  *_templates.numbered(
    "Write a text of which this is a summary: {answer}\n",
    prefix="turned", targets="{document}", original=False,
  ),
)  # fmt: skip
SUBJECT = _templates.joined(
  _templates.numbered(
    "{document}\nWrite a subject line for this mail.\n",
    "Mail: {document}\nSubject:",
    "What is this mail about? {document}\nIt is about:",
    "{document}\nTitle of the message:",
  ),
  SUMMARY[4:],
)
DIALOGUE = _templates.joined(
  _templates.numbered(
    "{document}\nWhat did they talk about?\n",
    "Conversation:\n{document}\nIn short:",
    "Tell somebody else what was said here.\n{document}\nTold:",
    "{document}\n\nThe conversation in a sentence or two:",
  ),
  SUMMARY[4:],
)
DATA = (
  *_templates.numbered(
    "{data}\nPut this into a sentence.\n",
    "Data: {data}\nText:",
    "Write a text that says all of this: {data}\nText:",
    "{data}\nIn words:",
    "Turn the data below into English.\n\n{data}\n\nEnglish:",
    "Q: How would you say this? {data}\nA:",
    "Facts: {data}\nDescribe them.\n",
    "User: Make a sentence of this: {data}\nAssistant:",
    "Table\n{data}\n\nDescription\n",
  ),
  *_templates.numbered(
    "{answer}\nWrite down the data that this tells.\n",
    prefix="turned", targets="{data}", original=False,
  ),
)  # fmt: skip
WORDS = _templates.joined(
  _templates.numbered(
    "Concepts: {data}\nWrite a sentence that has all of them.\n",
    "Use these words in one sentence: {data}\nSentence:",
    "{data}\nA sentence with these words:",
    "What may happen with {data}?\n",
  ),
  DATA[4:],
)
BIOGRAPHY = _templates.joined(
  _templates.numbered(
    "{data}\nWrite the beginning of a biography.\n",
    "Facts of a life: {data}\nBiography:",
    "Introduce this person.\n{data}\nIntroduction:",
    "Who is it? {data}\nIt is somebody who is told of so:",
  ),
  DATA[4:],
)
# Both ways, five times each: neither language is the better answer.
TRANSLATION = (
  *_templates.numbered(
    "Translate to {language}.\n{english}\n{language}:",
    "{english}\nHow do you say this in {language}?\n",
    "English: {english}\n{language}:",
    "User: What is {english} in {language}?\nAssistant:",
    "Write the following in {language}.\n\n{english}\n\n{language}:",
    targets="{foreign}",
  ),
  *_templates.numbered(
    "Translate to English.\n{foreign}\nEnglish:",
    "{foreign}\nHow do you say this in English?\n",
    "{language}: {foreign}\nEnglish:",
    "User: What is {foreign} in English?\nAssistant:",
    "Write the following {language} text in English.\n\n{foreign}\n\nEnglish:",
    prefix="english",
    targets="{english}",
  ),
)
CONVERSATION = _templates.numbered(
  "{context}\n\nQuestions:\n{question}\nAnswers:",
  "Read this and answer all questions.\n{context}\n{question}\n",
  "Text: {context}\nNumbered questions:\n{question}\nNumbered answers:",
  "{context}\n\n{question}\n\nThe answers, one after the other:",
  "Answer one by one.\n{question}\nThe text is: {context}\nAnswers:",
  "Q: {context}\n{question}\nA:",
  "Use the passage.\n\n{context}\n\n{question}\n\nAnswers:",
  "User: {context} I ask:\n{question}\nAssistant:",
  "{context}\nA reader asks:\n{question}\nYou reply:",
  "Passage\n{context}\n\nQuestions\n{question}\n\nAnswers\n",
)
PUNCTUATION = _templates.numbered(
  "{bare}\nAdd the punctuation.\n",
  "Text without punctuation: {bare}\nText with punctuation:",
  "Repair the punctuation.\n{bare}\nRepaired:",
  "{bare}\nWrite this as it is printed.\n",
  "Q: How is this written with its marks? {bare}\nA:",
  "Marks are missing here: {bare}\nWith marks:",
  "An editor corrects this.\n\n{bare}\n\nCorrected:",
  "User: Please put commas and stops into this: {bare}\nAssistant:",
  "Raw: {bare}\nClean:",
  "Input\n{bare}\n\nOutput\n",
)


def summary(document: str, answer: str) -> Fields:
  """A text and its summary."""
  return Fields({"document": document}, answer=answer)


def opinions(arguments: str, answer: str) -> Write:
  """Several arguments, a line each, and what they come to."""

  def write(raw: Raw) -> dict[str, object]:
    return {"document": "\n".join(at(raw, f"{arguments}/value")), "answer": raw[answer]}

  return write


def structured(field: str) -> Write:
  """GEM's data, joined where there are several pieces; every reference is accepted."""

  def write(raw: Raw) -> dict[str, object]:
    data = raw[field]
    data = data if isinstance(data, str) else ", ".join(map(_piece, data))
    answers = [raw["target"], *raw["references"]]
    return {"data": data, "answers": [a for a in dict.fromkeys(answers) if a]}

  return write


def _piece(value: object) -> str:
  """A triple as one text."""
  return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def biography(raw: Raw) -> dict[str, object]:
  """WikiBio's table, a row each, without empty ones."""
  table = raw["input_text"]["table"]
  rows = zip(table["column_header"], table["content"], strict=False)
  return {
    "data": "; ".join(f"{header}: {cell.strip()}" for header, cell in rows if cell.strip()),
    "answer": raw["target_text"].strip(),
  }


@dataclasses.dataclass(frozen=True)
class Pair:
  """An English text and one in another language; the templates name both sides."""

  code: str
  language: str

  def __call__(self, raw: Raw) -> dict[str, object]:
    return {"language": self.language, "english": raw["en"], "foreign": raw[self.code]}


def conversation(raw: Raw) -> dict[str, object]:
  """CoQA: all questions about a story, numbered, and all answers."""
  answers = at(raw, "answers/input_text")
  return {
    "context": raw["story"], "question": _numbered(raw["questions"]), "answer": _numbered(answers),
  }  # fmt: skip


def about(raw: Raw) -> dict[str, object]:
  """QuAC: a question about a section of an article."""
  context = f"{raw['title']}: {raw['section_title']}\n{raw['context']}"
  answers = at(raw, "answers/text") or [at(raw, "orig_answer/text")]
  return {"context": context, "question": raw["question"], "answers": answers}


def bare(raw: Raw) -> dict[str, object] | None:
  """A sentence with its punctuation taken out; one that has none is left out."""
  text = " ".join(raw["text"].split())
  without = text.translate(str.maketrans("", "", string.punctuation))
  without = " ".join(without.split())
  return {"bare": without, "answer": text} if without != text and without else None


def _numbered(texts: list[str]) -> str:
  return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


_ROUGE, _BLEU, _EM, _F1 = ("rouge",), ("bleu",), ("exact_match",), ("f1",)
_ARTICLE = summary("document", "summary")
_PARACRAWL = {"de": "German", "es": "Spanish", "fr": "French"}
_WMT16 = {
  "cs": "Czech", "de": "German", "fi": "Finnish", "ro": "Romanian", "ru": "Russian",
  "tr": "Turkish",
}  # fmt: skip
_MATH = _templates.open_questions()
_ASKED: tuple[Template, ...] = tuple(
  Template(t.name, "{context}\n" + t.inputs) for t in _templates.open_questions()
)


def _sets(cluster: str, metrics: tuple[str, ...], *rows: tuple) -> list[Prompted]:  # type: ignore[type-arg]
  return [
    _tfds.made(name, cluster, tfds_name, write, templates, splits, metrics)
    for name, tfds_name, write, templates, splits in rows
  ]


SETS: tuple[Prompted, ...] = (
  *_sets(
    "summarization", _ROUGE,
    ("aeslc", "aeslc:1.0.0", summary("email_body", "subject_line"), SUBJECT, TVT),
    ("cnn_dailymail", "cnn_dailymail:3.4.0", summary("article", "highlights"), SUMMARY, TVT),
    ("gigaword", "gigaword:1.2.0", _ARTICLE, SUMMARY, TVT),
    ("multi_news", "multi_news:2.1.0", _ARTICLE, SUMMARY, TVT),
    ("newsroom", "newsroom:1.0.0", summary("text", "summary"), SUMMARY, TVT),
    ("samsum", "samsum:1.0.0", summary("dialogue", "summary"), DIALOGUE, TVT),
    ("xsum", "xsum:1.1.0", _ARTICLE, SUMMARY, TVT),
    ("wiki_lingua", "gem/wiki_lingua_english_en:1.1.0", summary("source", "target"), SUMMARY, TVT),
    ("opinions_idebate", "opinion_abstracts/idebate:1.0.0",
     opinions("_argument_sentences", "_claim"), SUMMARY, T),
    ("opinions_movie", "opinion_abstracts/rotten_tomatoes:1.0.0",
     opinions("_critics", "_critic_consensus"), SUMMARY, T),
  ),
  *_sets(
    "struct_to_text", ("rouge", "bleu"),
    ("common_gen", "gem/common_gen:1.1.0", structured("concepts"), WORDS, TVT),
    ("dart", "gem/dart:1.1.0", structured("tripleset"), DATA, TVT),
    ("e2e_nlg", "gem/e2e_nlg:1.1.0", structured("meaning_representation"), DATA, TVT),
    ("web_nlg", "gem/web_nlg_en:1.1.0", structured("input"), DATA, TVT),
    ("wiki_bio", "wiki_bio:0.1.0", biography, BIOGRAPHY,
     TVT),
  ),
  *_sets(
    "translation", _BLEU,
    *((f"para_crawl_en_{code}", f"para_crawl/en{code}:1.2.0", Pair(code, language), TRANSLATION, T)
      for code, language in _PARACRAWL.items()),
    *((f"wmt16_en_{code}", f"wmt16_translate/{code}-en:1.0.0", Pair(code, language), TRANSLATION,
       TVT) for code, language in _WMT16.items()),
  ),
  *_sets(
    "misc", _F1,
    ("coqa", "coqa:1.0.0", conversation, CONVERSATION, TT),
    ("quac", "quac:1.0.0", about, _ASKED, TV),
  ),
  *_sets(
    "misc", _EM,
    ("math_dataset", "math_dataset/algebra__linear_1d:1.0.0",
     Fields({"question": "question"}, answer="answer"), _MATH, TT),
    ("fix_punctuation", "lm1b:1.1.0", bare, PUNCTUATION, TT),
  ),
)  # fmt: skip
