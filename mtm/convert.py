"""`mtm convert`: a checkpoint of one format becomes one of another, checked on the way."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm import interop
from mtm.errors import UserError, nearest
from mtm.interop import hf
from mtm.programs import allocator, published, reference, setup
from mtm.types import Model, Params

TOLERANCE = 1e-3  # of logits, in float32: other orders of summation


def convert(
  source: str,
  destination: str,
  to: str,
  reference_file: str | None = None,
  tolerance: float = TOLERANCE,
  compare: bool = True,
) -> None:
  """Reads, compares and writes; keeps nothing where one of them fails.

  Parameters pass through files beside the destination: a few tensors are in memory at a time, but
  for the comparison, which needs it for all of them, twice.

  Args:
    source, destination: directories.
    to: the format to write.
    reference_file: npz with the original's logits, or None.
    tolerance: the largest difference of logits allowed.
    compare: whether to compare with the original, where it can be run.

  Raises:
    UserError: anything that the user can mend.
  """
  opened = published.open_checkpoint(source)
  model = opened.model()
  published.refuse_existing(Path(destination))
  home = Path(destination).absolute().parent
  with _disk(home):
    home.mkdir(parents=True, exist_ok=True)
  with _disk(home), tempfile.TemporaryDirectory(prefix=".convert-", dir=home) as scratch:
    disk = published.OnDisk(Path(scratch))
    params = opened.fill(model, disk, disk.empty)
    count = sum(x.size for x in jax.tree.leaves(params))
    print(f"{source}: {opened.format}, {opened.build.__name__}, {count:,} parameters")
    print("every tensor has its parameter, and every parameter its tensor")
    told = _original(opened, model, count, reference_file) if compare else None
    if told is not None:
      _agree(model, params, told, opened.where, tolerance)

    def check(folder: Path) -> None:
      if compare and told is None and to == hf.FORMAT.name:
        ours = _transformers(folder, model, count)
        if ours is not None:
          _agree(model, params, ours, Path(destination), tolerance)

    written = published.write(opened, params, to, Path(destination), check)
  print(f"{destination}: {to}, {written:,} values")
  _tell_optimizer(opened, to, destination)


def _tell_optimizer(opened: published.Opened, to: str, destination: str) -> None:
  """Prints whether the optimizer's state went along; nothing where nobody expects it to."""
  state, theirs = opened.moments(), to != published.OURS
  if state is None and not theirs or theirs and not interop.formats()[to].optimizer:
    return
  if state is None:
    print(f"{destination}: no optimizer state is written: {opened.where} has none")
  elif state.refused:
    print(f"{destination}: no optimizer state is written: of {opened.where}, {state.refused}")
  else:
    print(f"{destination}: the state of Adafactor at step {state.step} is written too")


@contextlib.contextmanager
def _disk(home: Path) -> Iterator[None]:
  """Turns what the disk refuses into one sentence."""
  try:
    yield
  except OSError as error:
    raise UserError(
      f"cannot write in {home} ({error.strerror or error}): nothing is kept; a conversion needs"
      " room for the parameters twice"
    ) from error


def _original(
  opened: published.Opened, model: Model, count: int, file: str | None
) -> reference.Reference | None:
  """The original's logits, where they are given or the original can be run."""
  if file is not None:
    return reference.from_file(file)
  if hf.FORMAT.found(opened.where):
    return _transformers(opened.where, model, count)
  print(f"{opened.where} is not compared with its original: --reference would tell its logits")
  return None


def _transformers(folder: Path, model: Model, count: int) -> reference.Reference | None:
  """What `transformers` says of a directory; None, and a line that tells why, where it cannot be
  asked."""
  if not reference.room(count):
    print("not compared with transformers: it would need more memory than is free")
    return None
  values = hf.read_config(folder)
  family = hf.family_of(values, str(folder))
  (name, *_) = values.get("architectures") or family.architectures
  told = reference.from_transformers(folder, model, name)
  if told is None:
    print("not compared with transformers: it or torch is not installed, see mtm[parity]")
  return told


def _agree(
  model: Model, params: Params, told: reference.Reference, where: Path, tolerance: float
) -> None:
  """Prints how near the logits are. Raises UserError where they are not."""
  found = reference.compare(model, jax.tree.map(np.asarray, params), told)
  print(
    f"beside {told.name}: largest difference of logits {found.largest:.2e}, the same likeliest"
    f" token at {100 * found.same:.2f} % of places"
  )
  if not found.largest <= tolerance:
    raise UserError(
      f"{where}: logits differ by {found.largest:.2e}, more than --tolerance={tolerance:g}: nothing"
      " was written"
    )


def main(argv: Sequence[str] | None = None) -> int:
  """The command line."""
  kinds = [published.OURS, *sorted(interop.formats())]
  parser = argparse.ArgumentParser("mtm convert", description=__doc__, allow_abbrev=False)
  parser.add_argument("source", help="a checkpoint of any format; it is found out which")
  parser.add_argument("destination", help="a directory that does not exist yet")
  parser.add_argument("--to", default=published.OURS, help=f"{', '.join(kinds)}; default: mtm")
  parser.add_argument("--reference", help="npz with the original's inputs and logits")
  parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="of logits")
  parser.add_argument(
    "--no-compare", dest="compare", action="store_false", help="for models too large to run here"
  )
  args = parser.parse_args(argv)
  if args.to not in kinds:
    raise UserError(f"mtm convert --to={args.to}: there is no such format{nearest(args.to, kinds)}")
  if not Path(args.source).exists():
    raise UserError(f"mtm convert: {args.source} does not exist")
  setup.start()
  allocator.frugal()
  with _interruptible():
    convert(args.source, args.destination, args.to, args.reference, args.tolerance, args.compare)
  return 0


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
  """SIGTERM and Ctrl-C end the program by way of what removes half-written files."""

  def end(number: int, frame: Any) -> None:
    del frame
    for other in before:  # a second one does not disturb that
      signal.signal(other, signal.SIG_IGN)
    print("interrupted: nothing is kept", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)

  before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    for number in before:
      signal.signal(number, end)
  except ValueError:  # not the main thread
    before = {}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["convert", *sys.argv[1:]]))
