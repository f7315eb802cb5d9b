"""Gin that protects its user: the only package that imports gin.

    config = load(mtm.train.train, ["families/gpt2/tiny.gin", "runs/pretrain.gin"],
                  ["TRAIN_STEPS=100", "MODEL_DIR='/tmp/run'"])
    config.call()

gin's syntax and meaning, but every macro, function and parameter that is unknown, every binding
that nothing uses, every value that does not fit its parameter's annotation and every missing value
is a `UserError` of one sentence with file and line, raised by `load` before anything is built.
"""

from __future__ import annotations

from mtm.config.config import Config, current_text, load
from mtm.config.flags import bindings_of, main
from mtm.config.write import call

__all__ = ["Config", "bindings_of", "call", "current_text", "load", "main"]
