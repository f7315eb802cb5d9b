"""Commonsense, coreference and words in context: FLAN's clusters (2109.01652), and T0's held-out
sets (2110.08207)."""

from __future__ import annotations

from mtm.prompts.prompted import Prompted
from mtm.tasks import _templates, _tfds
from mtm.tasks._tfds import TV, Fields, Raw

COMPLETION = (
  *_templates.numbered(
    "{context}\nHow does it go on?\n{options}\nAnswer:",
    "Finish the text.\n{context}\n{options}\n",
    "{context}\nWhich of these comes next?\n{options}\nNext:",
    "{options}\nWhich ending fits this beginning?\n{context}\n",
    "Beginning: {context}\n{options}\nEnd:",
    "Q: What follows after this? {context}\n{options}\nA:",
    "Choose the most likely continuation.\n\n{context}\n\n{options}\nContinuation:",
    "User: {context} And then?\n{options}\nAssistant:",
    "{context}",
  ),
  *_templates.numbered(
    "Write what may come before this: {answer}\n",
    prefix="turned", targets="{context}", original=False,
  ),
)  # fmt: skip
CAUSE = (
  *_templates.numbered(
    "{premise} What was the {question}?\n{options}\nAnswer:",
    "{premise}\nName the most likely {question}.\n{options}\n",
    "Here is something that happened: {premise} Which is its {question}?\n{options}\nAnswer:",
    "{options}\nWhich of these is the {question} of this? {premise}\n",
    "Q: {premise} What is the {question} of that?\n{options}\nA:",
    "Event: {premise}\nWanted: its {question}\n{options}\nAnswer:",
    "{premise}\nPick the {question}.\n{options}\nIt is:",
    "User: {premise} Tell me the {question}.\n{options}\nAssistant:",
    "Find the {question}.\n\n{premise}\n\n{options}\nFound:",
  ),
  *_templates.numbered(
    "{answer} This is a {question} of what?\n",
    prefix="turned", targets="{premise}", original=False,
  ),
)  # fmt: skip
GOAL = _templates.joined(
  _templates.numbered(
    "Goal: {context}\nHow do you reach it?\n{options}\nAnswer:",
    "{context}\nWhich way is better?\n{options}\n",
    "How to do this: {context}\n{options}\nSo:",
  ),
  COMPLETION[3:],
)
PRONOUN = (
  *_templates.numbered(
    '{sentence}\nWho or what is "{pronoun}"?\n{options}\nAnswer:',
    '{sentence}\nWhat does "{pronoun}" stand for?\n{options}\n',
    "Resolve the word {pronoun}.\n{sentence}\n{options}\nIt means:",
    'In "{sentence}", {pronoun} is\n{options}\n',
    "{options}\nWhich of these is meant by {pronoun} here? {sentence}\nAnswer:",
    'Q: {sentence} "{pronoun}" refers to whom?\n{options}\nA:',
    "Text: {sentence}\nWord: {pronoun}\n{options}\nMeaning:",
    "User: I do not understand who {pronoun} is here: {sentence}\n{options}\nAssistant:",
    "{sentence}\nReplace {pronoun} by the right one.\n{options}\nRight one:",
    "Find out what {pronoun} stands for.\n\n{sentence}\n\n{options}\nIt stands for:",
  ),
)  # fmt: skip
SAME_ONE = _templates.numbered(
  '{text}\nDoes "{second}" mean {first}?\n{options}\nAnswer:',
  "{text}\nAre {first} and {second} one and the same here?\n{options}\n",
  "Text: {text}\nIs {second} the same as {first}?\n{options}\nAnswer:",
  '{text} In this sentence, can "{second}" be replaced by "{first}"?\n{options}\nAnswer:',
  "{options}\nIs {first} meant by {second}? {text}\n",
  "Q: {text} Is it {first} who is called {second}?\n{options}\nA:",
  "{text}\nClaim: {second} stands for {first}.\nTrue?\n{options}\nAnswer:",
  "User: {text} By {second}, do you mean {first}?\n{options}\nAssistant:",
  "Say whether {second} refers to {first}.\n{text}\n{options}\nAnswer:",
  "Sentence\n{text}\n\nDo these belong together: {second}, {first}?\n{options}\n",
)
IN_CONTEXT = _templates.numbered(
  "{sentence1}\n{sentence2}\nHas the word {word} the same meaning in both?\n{options}\nAnswer:",
  'Is "{word}" used in one sense here?\n1. {sentence1}\n2. {sentence2}\n{options}\n',
  "Word: {word}\nFirst: {sentence1}\nSecond: {sentence2}\nSame meaning?\n{options}\nAnswer:",
  "Compare {word} in these.\n{sentence1}\n{sentence2}\nEqual?\n{options}\n",
  "{options}\nDoes {word} mean the same in {sentence1} and in {sentence2}\nAnswer:",
  "Q: {sentence1} / {sentence2} Is {word} the same?\n{options}\nA:",
  "A dictionary has senses of {word}. Do these share one?\n{sentence1}\n{sentence2}\n{options}\n",
  "User: Do I use {word} in one way? {sentence1} {sentence2}\n{options}\nAssistant:",
  "{sentence1}\n{sentence2}\n{word}: one meaning?\n{options}\nAnswer:",
  "Look at the word {word}.\n\n{sentence1}\n{sentence2}\n\nOne sense in both?\n{options}\n",
)
GRAMMAR = (
  *_templates.numbered(
    "{sentence}\nIs this sentence good English?\n{options}\nAnswer:",
    "Sentence: {sentence}\nWould a native speaker say so?\n{options}\n",
    "Judge the grammar.\n{sentence}\n{options}\nIt is",
    'Is "{sentence}" well formed?\n{options}\nAnswer:',
    "{options}\nWhich holds for this sentence? {sentence}\nAnswer:",
    "Q: Can one say this? {sentence}\n{options}\nA:",
    "{sentence}\nA teacher finds this sentence\n{options}\n",
    "User: Is this right? {sentence}\n{options}\nAssistant:",
    "Linguistic test. {sentence}\n{options}\nResult:",
  ),
  *_templates.numbered(
    "Write a sentence that is {answer} English.\n",
    prefix="turned", targets="{sentence}", original=False,
  ),
)  # fmt: skip


def gap(raw: Raw) -> dict[str, object]:
  """Winogrande: the gap is the pronoun."""
  return {
    "sentence": raw["sentence"], "pronoun": "_", "choices": [raw["option1"], raw["option2"]],
    "gold": raw["label"],
  }  # fmt: skip


_ENDINGS = Fields({"context": "context"}, options="endings")
_COPA = Fields(
  {"premise": "premise", "question": "question"}, options=("choice1", "choice2")
)  # fmt: skip
_DPR = Fields({"sentence": "sentence", "pronoun": "pronoun"}, options="candidates")
_WSC273 = Fields(
  {"sentence": "text", "pronoun": "pronoun_text"}, options=("option1", "option2")
)  # fmt: skip
_WSC = Fields({"text": "text", "first": "span1_text", "second": "span2_text"}, ("no", "yes"))
_WIC = Fields({n: n for n in ("word", "sentence1", "sentence2")}, ("no", "yes"))
_COLA = Fields({"sentence": "sentence"}, ("unacceptable", "acceptable"))
# Story Cloze has no training split; its validation split is trained on, as FLAN and T0 do.
_STORIES = {
  "train": "validation[200:]", "validation": "validation[:200]", "test": "test",
}  # fmt: skip

SETS: tuple[Prompted, ...] = tuple(
  _tfds.made(name, cluster, tfds_name, write, templates, splits)
  for name, cluster, tfds_name, write, templates, splits in (
    ("copa", "commonsense", "super_glue/copa:1.0.2", _COPA, CAUSE, TV),
    ("hellaswag", "commonsense", "hellaswag:1.1.0", _ENDINGS, COMPLETION, TV),
    ("piqa", "commonsense", "piqa:1.0.0",
     Fields({"context": "goal"}, options=("sol1", "sol2")), GOAL, TV),
    ("story_cloze", "commonsense", "story_cloze/2016:1.0.0",
     Fields({"context": "context"}, options="endings", first=1), COMPLETION, _STORIES),
    ("dpr", "coreference", "definite_pronoun_resolution:1.1.0", _DPR, PRONOUN, _tfds.TT),
    ("winogrande", "coreference", "winogrande:1.2.0", gap, PRONOUN,
     {"train": "train_xl", "validation": "validation"}),
    ("wsc273", "coreference", "wsc273:1.0.0", _WSC273, PRONOUN, {"test": "test"}),
    ("wsc", "coreference", "super_glue/wsc.fixed:1.0.2", _WSC, SAME_ONE, TV),
    ("wic", "misc", "super_glue/wic:1.0.2", _WIC, IN_CONTEXT, TV),
    ("cola", "misc", "glue/cola:2.0.0", _COLA, GRAMMAR, TV),
  )
)  # fmt: skip
