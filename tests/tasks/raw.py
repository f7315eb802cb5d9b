"""A record of each TFDS set as its catalogue describes it, and the answer that ours has."""

from __future__ import annotations

from typing import Any

PAIR = {"sentence1": "A cat sat.", "sentence2": "A cat was seated."}
NLI = {"premise": "It rains.", "hypothesis": "It is wet."}
MAYBE = "it is not possible to tell"
SPAN = {"context": "Ada wrote it.", "question": "Who?", "answers": {"text": ["Ada", "Ada L."]}}
KEYED = {
  "question": "Which?", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "answerKey": "B",
}  # fmt: skip
NUMBERED = {**KEYED, "choices": {"text": ["one", "two"], "label": [0, 1]}, "answerKey": 1}
GEM = {"target": "Fish swim.", "references": ["Fish swim.", "A fish swims."]}
DOCUMENT = {"document": "A long story.", "summary": "A story."}
SONG = {"title": "Song", "content": " It is sung. "}

# Set → (record, the first accepted answer); None: the record is left out.
RAW: dict[str, tuple[dict[str, Any], str | None]] = {
  "anli_r1": ({"context": "It rains.", "hypothesis": "It is dry.", "label": 2}, "no"),
  "cb": ({**NLI, "label": 1}, "no"),
  "mnli": ({**NLI, "label": 1}, MAYBE),
  "rte": ({**NLI, "label": 0}, "yes"),
  "snli": ({**NLI, "label": -1}, ""),  # annotators disagree: hidden
  "wnli": ({**PAIR, "label": 1}, "yes"),
  "qnli": ({"question": "Who?", "sentence": "Ada.", "label": 0}, "yes"),
  "mrpc": ({**PAIR, "label": 1}, "yes"),
  "qqp": ({"question1": "Why?", "question2": "Who?", "label": 0}, "no"),
  "paws": ({**PAIR, "label": 0}, "no"),
  "stsb": ({**PAIR, "label": 3.8}, "4"),
  "imdb": ({"text": "Great.", "label": 1}, "positive"),
  "sentiment140": ({"text": "Meh.", "polarity": 2}, None),
  "sst2": ({"sentence": "Bad.", "label": 0}, "negative"),
  "yelp": ({"text": "Bad.", "label": 0}, "negative"),
  "rotten_tomatoes": ({"text": "Fine.", "label": 1}, "positive"),
  "amazon_polarity": ({"title": "No", "content": "Broke.", "label": 0}, "negative"),
  "app_reviews": ({"review": "Good", "star": 4}, "4"),
  "ag_news": ({"title": "Cup", "description": "A match.", "label": 1}, "Sports"),
  "dbpedia": ({**SONG, "label": 11}, "album"),
  "trec": ({"text": "Who wrote it?", "label-coarse": 3, "label-fine": 0}, "person"),
  "copa": (
    {"premise": "It fell.", "question": "cause", "choice1": "Wind.", "choice2": "Sun.", "label": 0},
    "Wind.",
  ),
  "hellaswag": ({"context": "He runs", "endings": ["home.", "on.", "a", "b"], "label": 1}, "on."),
  "piqa": ({"goal": "Open a jar", "sol1": "Turn it.", "sol2": "Eat it.", "label": 0}, "Turn it."),
  "story_cloze": ({"context": "A day.", "endings": ["Night.", "Fish."], "label": 1}, "Night."),
  "dpr": (
    {"sentence": "Bees like flowers since they smell.", "pronoun": "they", "label": 1,
     "candidates": ["Bees", "flowers"]}, "flowers",
  ),
  "winogrande": (
    {"sentence": "Ann met Bo since _ asked.", "option1": "Ann", "option2": "Bo", "label": 1}, "Bo",
  ),
  "wsc273": (
    {"text": "Ann met Bo since she asked.", "pronoun_text": "she", "option1": "Ann",
     "option2": "Bo", "label": 0}, "Ann",
  ),
  "wsc": ({"text": "Ann met her.", "span1_text": "Ann", "span2_text": "her", "label": 0}, "no"),
  "wic": ({"word": "bank", "sentence1": "A bank.", "sentence2": "The bank.", "label": 1}, "yes"),
  "cola": ({"sentence": "He go.", "label": 0}, "unacceptable"),
  "arc_easy": (NUMBERED, "two"),
  "arc_challenge": (NUMBERED, "two"),
  "nq": ({"question": "Who?", "answer": ["Ada", "Bo"]}, "Ada"),
  "triviaqa": ({"question": "Who?", "answer": {"value": "Ada", "aliases": ["Ada L."]}}, "Ada"),
  "hotpot_qa": ({"question": "Who?", "answer": "Ada"}, "Ada"),
  "wiki_qa": ({"question": "Who?", "answer": "Ada did.", "label": 0}, None),
  "boolq": ({"question": "is it", "passage": "It is.", "label": 1}, "yes"),
  "multirc": ({"paragraph": "Ada.", "question": "Who?", "answer": "Bo", "label": 0}, "no"),
  "openbookqa": (
    {"question": {"stem": "Which?", "choice_A": "a", "choice_B": "b", "choice_C": "c",
                  "choice_D": "d"}, "fact1": "C is.", "answerKey": 2}, "c",
  ),
  "drop": (
    {"passage": "Two.", "question": "How many?", "answer": "2", "validated_answers": ["two", ""]},
    "2",
  ),
  "squad": (SPAN, "Ada"),
  "adversarial_qa": (SPAN, "Ada"),
  "quoref": (SPAN, "Ada"),
  "ropes": ({**SPAN, "background": "Ada wrote.", "situation": "Bo read."}, "Ada"),
  "duorc": ({"plot": "Ada wrote.", "question": "Who?", "answers": ["Ada"]}, "Ada"),
  "cosmos_qa": (
    {"context": "A", "question": "Why?", **{f"answer{n}": str(n) for n in range(4)}, "label": 3},
    "3",
  ),
  "record": (
    {"passage": "Ada met Bo.\n@highlight\nMet", "query": "@placeholder met Bo.",
     "entities": ["Ada", "Bo", "Ada"], "answers": ["Ada"]}, "Ada",
  ),
  "commonsense_qa": (KEYED, "two"),
  "dream": (
    {"dialogue": ["A: Hi.", "B: Ho."], "question": "What?", "choice": ["Hi", "Ho"], "answer": "Ho"},
    "Ho",
  ),
  "quail": (
    {"context": "A", "question": "Q?", "answers": ["a", "b", "c", "d"], "correct_answer_id": 2}, "c"
  ),
  "quartz": ({**KEYED, "para": "A fact."}, "two"),
  "social_i_qa": (
    {"context": "A", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c",
     "label": "2"}, "b",
  ),
  "wiqa": (
    {"question_stem": "More?", "question_para_step": ["It rains. ", "It grows."],
     "choices": {"text": ["more", "less"], "label": ["A", "B"]}, "answer_label": "A"}, "more",
  ),
  "qasc": (KEYED, "two"),
  "quarel": (
    {"question": "Faster?", "world_literals": {"world1": ["ice"], "world2": ["sand"]},
     "answer_index": 1}, "sand",
  ),
  "sciq": (
    {"question": "Q?", "support": "A", "correct_answer": "m", "distractor1": "z",
     "distractor2": "a", "distractor3": "q"}, "m",
  ),
  "wiki_hop": (
    {"question": "place_of_birth Ada", "supports": ["A", "B"], "candidates": ["x", "y"],
     "answer": "y"}, "y",
  ),
  "aeslc": ({"email_body": "Come at 2.", "subject_line": "Meeting"}, "Meeting"),
  "cnn_dailymail": ({"article": "Long.", "highlights": "Short."}, "Short."),
  "gigaword": (DOCUMENT, "A story."),
  "multi_news": (DOCUMENT, "A story."),
  "newsroom": ({"text": "Long.", "summary": "Short."}, "Short."),
  "samsum": ({"dialogue": "A: Hi.\nB: Ho.", "summary": "They greet."}, "They greet."),
  "xsum": (DOCUMENT, "A story."),
  "wiki_lingua": ({"source": "Long.", "target": "Short."}, "Short."),
  "opinions_idebate": (
    {"_claim": "So.", "_argument_sentences": {"key": ["0", "1"], "value": ["One.", "Two."]}}, "So.",
  ),
  "opinions_movie": (
    {"_critic_consensus": "So.", "_critics": [{"key": "0", "value": "One."}]}, "So.",
  ),
  "common_gen": ({**GEM, "concepts": ["fish", "swim"]}, "Fish swim."),
  "dart": ({**GEM, "tripleset": [["fish", "does", "swim"]]}, "Fish swim."),
  "e2e_nlg": ({**GEM, "meaning_representation": "does[swim]"}, "Fish swim."),
  "web_nlg": ({**GEM, "input": ["fish | does | swim"], "references": []}, "Fish swim."),
  "wiki_bio": (
    {"input_text": {"table": {"column_header": ["name", "born"], "content": ["Ada\n", " "]}},
     "target_text": "Ada was.\n"}, "Ada was.",
  ),
  "para_crawl_en_de": ({"en": "Yes.", "de": "Ja."}, "Ja."),
  "wmt16_en_ro": ({"en": "Yes.", "ro": "Da."}, "Da."),
  "coqa": (
    {"story": "Ada.", "questions": ["Who?", "Why?"],
     "answers": {"input_text": ["Ada", "So"], "answer_start": [0, 1]}}, "1. Ada\n2. So",
  ),
  "quac": (
    {"title": "Ada", "section_title": "Life", "context": "She was.", "question": "Who?",
     "answers": {"text": ["She"]}, "orig_answer": {"text": "She"}}, "She",
  ),
  "math_dataset": ({"question": "Solve x = 2.", "answer": "2"}, "2"),
  "fix_punctuation": ({"text": "Well , yes ."}, "Well , yes ."),
}  # fmt: skip
