from __future__ import annotations

import subprocess
import sys

from mtm.data._tensorflow import seqio, tensorflow


def run(code):
  return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_the_pipeline_is_imported_without_tensorflow():
  code = (
    "import sys, importlib\n"
    "for name in ('pipeline', 'batches', 'provider', 'preprocessors.mlm', 'preprocessors.seq2seq',"
    "             'preprocessors.causal_lm', 'preprocessors.prefix_lm',"
    "             'preprocessors.span_corruption'):\n"
    "  importlib.import_module(f'mtm.data.{name}')\n"
    "print(sorted({'tensorflow', 'seqio', 'gin'} & set(sys.modules)))"
  )
  assert run(code).stdout.strip() == "[]"


def test_tensorflow_starts_in_silence_and_sees_no_gpu():
  code = (
    "import warnings; warnings.simplefilter('error')\n"
    "from mtm.data._tensorflow import seqio, tensorflow\n"
    "seqio(); print(tensorflow().config.get_visible_devices('GPU'))"
  )
  done = run(code)
  assert done.stdout.strip() == "[]" and done.stderr == ""


def test_each_is_imported_once():
  assert tensorflow() is tensorflow() and seqio() is seqio()
