"""Mixtures of prompted sets: FLAN's and T0's, generated ones, and those without a cluster."""

from __future__ import annotations

# 2109.01652, figure 3: 12 clusters; the rounds of ANLI and the halves of ARC are sets of their own.
FLAN = {
  "nli": ["anli_r1", "anli_r2", "anli_r3", "cb", "mnli", "qnli", "rte", "snli", "wnli"],
  "commonsense": ["copa", "hellaswag", "piqa", "story_cloze"],
  "sentiment": ["imdb", "sentiment140", "sst2", "yelp"],
  "paraphrase": ["mrpc", "paws", "qqp", "stsb"],
  "closed_book_qa": ["arc_challenge", "arc_easy", "nq", "triviaqa"],
  "struct_to_text": ["common_gen", "dart", "e2e_nlg", "web_nlg"],
  "reading_comprehension": ["boolq", "drop", "multirc", "openbookqa", "squad"],
  "commonsense_reading": ["cosmos_qa", "record"],
  "coreference": ["dpr", "winogrande", "wsc273"],
  "translation": [
    *(f"para_crawl_en_{code}" for code in ("de", "es", "fr")),
    *(f"wmt16_en_{code}" for code in ("cs", "de", "fi", "ro", "ru", "tr")),
  ],
  "summarization": [
    "aeslc", "ag_news", "cnn_dailymail", "gigaword", "multi_news", "newsroom", "opinions_idebate",
    "opinions_movie", "samsum", "wiki_lingua", "xsum",
  ],
  "misc": ["cola", "coqa", "fix_punctuation", "math_dataset", "quac", "trec", "wic"],
}  # fmt: skip

# 2110.08207, figure 2: what T0 is trained on, and what is held out.
T0 = {
  "multiple_choice_qa": [
    "commonsense_qa", "cosmos_qa", "dream", "qasc", "quail", "quarel", "quartz", "sciq",
    "social_i_qa", "wiki_hop", "wiqa",
  ],
  "extractive_qa": ["adversarial_qa", "duorc", "quoref", "ropes"],
  "closed_book_qa": ["hotpot_qa", "wiki_qa"],
  "sentiment": ["amazon_polarity", "app_reviews", "imdb", "rotten_tomatoes", "yelp"],
  "topic": ["ag_news", "dbpedia", "trec"],
  "struct_to_text": ["common_gen", "wiki_bio"],
  "summarization": ["cnn_dailymail", "gigaword", "multi_news", "samsum", "xsum"],
  "paraphrase": ["mrpc", "paws", "qqp"],
}  # fmt: skip
T0_HELD_OUT = {
  "nli": ["anli_r1", "anli_r2", "anli_r3", "cb", "rte"],
  "coreference": ["winogrande", "wsc"],
  "completion": ["copa", "hellaswag", "story_cloze"],
  "word_sense": ["wic"],
}
GENERATED = (
  "arithmetic", "comparison", "counting", "dates", "scrambling", "sorting", "symbolic",
)  # fmt: skip


def register() -> None:
  """Registers `flan`, `t0`, `t0_held_out`, `generated`, and `flan_without_nli` and the like."""
  from mtm.data.sources.prompted import mixture

  flan, t0 = sum(FLAN.values(), []), sum(T0.values(), [])
  mixture("flan", flan)
  for cluster in FLAN:
    mixture(f"flan_without_{cluster}", flan, hold_out=[cluster])
  mixture("t0", t0, cap=50_000)  # 500,000 over the number of templates (2110.08207, section 5)
  mixture("t0_held_out", sum(T0_HELD_OUT.values(), []))
  mixture("generated", GENERATED)
  for cluster in GENERATED:
    mixture(f"generated_without_{cluster}", GENERATED, hold_out=[cluster])
