"""`mtm convert`: a checkpoint of one format becomes one of another, checked on the way."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from mtm import interop
from mtm.errors import UserError, nearest
from mtm.interop import hf
from mtm.programs import published, reference, setup
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

  Parameters pass through files beside the destination, so that reading holds one at a time, and
  writing for other libraries about a gigabyte. The comparison and orbax need memory for them all.

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
  home.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=".convert-", dir=home) as scratch:
    disk = published.OnDisk(Path(scratch))
    params = opened.fill(model, disk, disk.empty)
    count = sum(x.size for x in jax.tree.leaves(params))
    print(f"{source}: {opened.format}, {opened.build.__name__}, {count:,} parameters")
    print("every tensor has its parameter, and every parameter its tensor")
    if compare:
      _compare(opened, model, params, reference_file, tolerance)
    written = published.write(opened, params, to, Path(destination))
  print(f"{destination}: {to}, {written:,} values")


def _compare(
  opened: published.Opened,
  model: Model,
  params: Params,
  file: str | None,
  tolerance: float,
) -> None:
  """Prints how near the original's logits are. Raises UserError where they are not."""
  told = None
  if file is not None:
    told = reference.from_file(file)
  elif hf.FORMAT.found(opened.where):
    family = hf.family_of(hf.read_config(opened.where), str(opened.where))
    told = reference.from_transformers(opened.where, model, family.architectures[0])
  if told is None:
    print("not compared with the original: install torch and transformers, or give --reference")
    return
  found = reference.compare(model, jax.tree.map(np.asarray, params), told)
  print(
    f"beside {told.name}: largest difference of logits {found.largest:.2e}, the same likeliest"
    f" token at {100 * found.same:.2f} % of places"
  )
  if not found.largest <= tolerance:
    raise UserError(
      f"{opened.where}: logits differ by {found.largest:.2e}, more than --tolerance={tolerance:g}:"
      " nothing was written"
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
  convert(args.source, args.destination, args.to, args.reference, args.tolerance, args.compare)
  return 0


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["convert", *sys.argv[1:]]))
