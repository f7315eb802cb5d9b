"""`mtm <verb> ...`: one command for everything, each verb also a `python -m mtm.<verb>`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from mtm.errors import UserError, nearest

VERBS = {
  "train": ("mtm.train", "pretrain or fine-tune: --gin_file=runs/pretrain.gin ..."),
  "eval": ("mtm.eval", "measure a checkpoint (runs/eval.gin), or ask it (runs/fewshot.gin)"),
  "infer": ("mtm.infer", "generate or score: --gin_file=runs/infer.gin ..."),
  "chat": ("mtm.chat", "talk to a model in the terminal: chat MODEL_DIR"),
  "serve": ("mtm.serve", "an OpenAI-compatible server, and a page to talk to it: serve MODEL_DIR"),
  "tasks": ("mtm.data.show", "list tasks, or look into one: tasks show NAME"),
  "convert": ("mtm.convert", "a checkpoint of HuggingFace or T5X, in or out: convert SRC DST"),
  "compile": (
    "mtm.compile",
    "whether a run fits TPUs that are not here: --topology=v5e:16x16",
  ),
  "plan": ("mtm.plan", "the quickest mesh for a run on a slice: --topology=... --target-batch=..."),
  "inspect": ("mtm.inspect", "the parameters of a gin file or a checkpoint"),
}


def usage() -> str:
  """What `mtm --help` prints."""
  width = max(map(len, VERBS))
  lines = [f"  mtm {verb:<{width}}  {what}" for verb, (_, what) in VERBS.items()]
  return "\n".join(["mtm: pretrain, adapt and evaluate language models", "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a verb and returns its exit code; an unknown verb is told with the nearest one."""
  verb, *rest = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
  if verb in ("-h", "--help", "help"):
    print(usage())
    return 0
  if verb not in VERBS:
    print(f"error: mtm has no command {verb!r}{nearest(verb, VERBS)}", file=sys.stderr)
    return 1
  try:
    return int(importlib.import_module(VERBS[verb][0]).main(rest) or 0)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1


def entry() -> None:
  """The installed command `mtm`."""
  from mtm.programs import allocator, xla_flags

  allocator.tune()
  xla_flags.tune()
  sys.exit(main())


if __name__ == "__main__":
  entry()
