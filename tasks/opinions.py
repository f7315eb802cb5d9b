"""Sentiment and topic: FLAN's cluster (2109.01652), and T0's training sets (2110.08207)."""

from __future__ import annotations

from mtm.prompts.prompted import Prompted
from mtm.tasks import _templates, _tfds
from mtm.tasks._tfds import TT, TVT, Fields, Raw

SENTIMENT = (
  *_templates.numbered(
    "{text}\nIs this positive or negative?\n{options}\nAnswer:",
    "Text: {text}\nWhat is its sentiment?\n{options}\nSentiment:",
    "{text}\nHow does the author feel about it?\n{options}\n",
    "Classify the opinion.\n{text}\n{options}\nOpinion:",
    "Somebody wrote: {text}\nWhich word describes the opinion?\n{options}\nIt is",
    "Q: Is the following favourable?\n{text}\n{options}\nA:",
    "{options}\nWhich of these is this text?\n{text}\nAnswer:",
    "User: What do you make of this? {text}\n{options}\nAssistant:",
    "Tell the mood of the text below.\n\n{text}\n\n{options}\nMood:",
  ),
  *_templates.numbered(
    "Write a text whose sentiment is {answer}.\n",
    prefix="turned", targets="{text}", original=False,
  ),
)  # fmt: skip
STARS = _templates.numbered(
  "{text}\nHow many stars does this review give?\n{options}\nAnswer:",
  "Review: {text}\nStars, from 1 to 5:\n{options}\nStars:",
  "Guess the rating of this review.\n{text}\n{options}\nRating:",
  "{text}\nThe author gives, of five stars,\n{options}\n",
  "Q: What would you say is the rating of: {text}\n{options}\nA:",
  "On a scale from 1 to 5, how content is the author?\n{text}\n{options}\nAnswer:",
  "{options}\nWhich number of stars belongs to this?\n{text}\nAnswer:",
  "User: Rate this for me: {text}\n{options}\nAssistant:",
  "App review\n{text}\n\n{options}\nRating\n",
  "A customer wrote: {text}\nHow many stars came with it?\n{options}\nStars:",
)
TOPIC = (
  *_templates.numbered(
    "{text}\nWhat is this about?\n{options}\nAnswer:",
    "Text: {text}\nTopic:\n{options}\nIt is",
    "Which category does this belong to?\n{text}\n{options}\nCategory:",
    "{text}\nPick the best label.\n{options}\n",
    "Sort this into one of the classes.\n{options}\n{text}\nClass:",
    "Q: What kind of text is this? {text}\n{options}\nA:",
    "Label the following.\n\n{text}\n\n{options}\nLabel:",
    "User: Where would you file this? {text}\n{options}\nAssistant:",
    "{text}\nChoose its subject.\n{options}\nSubject:",
  ),
  *_templates.numbered(
    "Write a text about this subject: {answer}.\n",
    prefix="turned", targets="{text}", original=False,
  ),
)  # fmt: skip
QUESTION_KIND = _templates.joined(
  _templates.numbered(
    "{text}\nWhat kind of thing does this question ask for?\n{options}\nAnswer:",
    "Question: {text}\nIts answer is\n{options}\n",
    "Is the question about an entity, a person, a number, or what?\n{text}\n{options}\nKind:",
  ),
  TOPIC[1:8],
)


def labelled(*choices: str, text: str = "text", gold: str = "label", first: int = 0) -> Fields:
  """A text and its class."""
  return Fields({"text": text}, choices, gold=gold, first=first)


def tweet(raw: Raw) -> dict[str, object] | None:
  """Sentiment140: 0 is negative, 4 positive; neutral ones are left out."""
  gold = {0: 0, 4: 1}.get(raw["polarity"])
  return None if gold is None else {**_TWO, "text": raw["text"], "gold": gold}


def news(raw: Raw) -> dict[str, object]:
  """AG News: title and description together."""
  return {"text": f"{raw['title']}\n{raw['description']}", "choices": _NEWS, "gold": raw["label"]}


def review(raw: Raw) -> dict[str, object]:
  """Amazon: title and content together."""
  return {**_TWO, "text": f"{raw['title']}\n{raw['content']}", "gold": raw["label"]}


def encyclopedia(raw: Raw) -> dict[str, object]:
  """DBPedia: title and abstract together."""
  return {
    "text": f"{raw['title']}. {raw['content'].strip()}", "choices": _DBPEDIA, "gold": raw["label"]
  }  # fmt: skip


_BOTH = ("negative", "positive")
_TWO = {"choices": list(_BOTH)}
_NEWS = ["World", "Sports", "Business", "Science and technology"]
_DBPEDIA = [
  "company", "school", "artist", "athlete", "politician", "transport", "building", "place",
  "village", "animal", "plant", "album", "film", "written work",
]  # fmt: skip
_TREC = ("description", "entity", "abbreviation", "person", "number", "location")

SETS: tuple[Prompted, ...] = (
  *(
    _tfds.made(name, "sentiment", tfds_name, write, SENTIMENT, splits)
    for name, tfds_name, write, splits in (
      ("imdb", "imdb_reviews/plain_text:1.0.0", labelled(*_BOTH), TT),
      ("sentiment140", "sentiment140:1.0.0", tweet, TT),
      ("sst2", "glue/sst2:2.0.0", labelled(*_BOTH, text="sentence"), _tfds.TV),
      ("yelp", "yelp_polarity_reviews:0.2.0", labelled(*_BOTH), TT),
      ("rotten_tomatoes", "huggingface:rotten_tomatoes", labelled(*_BOTH), TVT),
      ("amazon_polarity", "huggingface:amazon_polarity", review, TT),
    )
  ),
  _tfds.made(
    "app_reviews", "sentiment", "huggingface:app_reviews",
    labelled("1", "2", "3", "4", "5", text="review", gold="star", first=1), STARS, _tfds.T,
  ),
  # FLAN counts it among summaries, T0 among topics.
  _tfds.made("ag_news", "summarization", "ag_news_subset:1.0.0", news, TOPIC, TT),
  _tfds.made("dbpedia", "topic", "huggingface:dbpedia_14", encyclopedia, TOPIC, TT),
  _tfds.made(
    "trec", "misc", "trec:1.0.0", labelled(*_TREC, gold="label-coarse"), QUESTION_KIND, TT
  ),
)  # fmt: skip
