"""Files of a user's own, in a directory that an environment variable names."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from mtm.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Located:
  """A file that is looked for when it is opened, so that a set can be listed without it.

  Attributes:
    variable: the environment variable that names the directory.
    name: of the file in it.
    what: what belongs there, for errors.
  """

  variable: str
  name: str
  what: str

  def __fspath__(self) -> str:
    """Where it would be: what tells one's tokens from another's looks into the file, if any."""
    return str(pathlib.Path(os.environ.get(self.variable, "")).expanduser() / self.name)

  def found(self) -> pathlib.Path:
    """The path; raises UserError where the variable or the file is missing."""
    home = os.environ.get(self.variable)
    if not home:
      raise UserError(
        f"{self.what} is read from your own disk: set {self.variable} to the directory that has "
        f"{self.name}"
      )
    path = pathlib.Path(self)
    if not path.is_file():
      names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
      raise UserError(
        f"{self.variable}={home}: there is no {self.name} in it{nearest(path.name, names)}"
      )
    return path
