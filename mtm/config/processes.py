"""One run in several processes: which of them this is, and where the first one listens."""

from __future__ import annotations

import dataclasses
import socket
import time

from mtm.errors import UserError

PATIENCE = 300.0  # seconds, as JAX's own: hosts of one run do not start at once


@dataclasses.dataclass
class Processes:
  """What the command line says of the processes of a run; the flags are T5X's.

  Attributes:
    coordinator: `HOST:PORT` on which process 0 listens; "": not told.
    count, index: how many processes there are, and which this is; None: not told.
    several: whether there are several, and the cluster knows the rest (a TPU slice, Slurm,
      Open MPI, Kubernetes).
  """

  coordinator: str = ""
  count: int | None = None
  index: int | None = None
  several: bool = False

  def start(self) -> None:
    """Joins the other processes, where the command line says that there are any.

    Must run before anything asks JAX for a device.

    Raises:
      UserError: flags that go not together, or the other processes are not found.
    """
    told = bool(self.coordinator), self.count is not None, self.index is not None
    if not any(told) and not self.several:
      return
    if any(told) and not all(told):
      names = ("--coordinator_address", "--process_count", "--process_index")
      lacking = [name for name, known in zip(names, told, strict=True) if not known]
      raise UserError(f"several processes need {', '.join(lacking)} too, or --multiprocess alone")
    if self.count is not None and self.index is not None and not 0 <= self.index < self.count:
      raise UserError(
        f"--process_index={self.index} is none of {self.count} processes: it is from 0 to"
        f" {self.count - 1}"
      )
    if self.index:
      _await(self.coordinator)
    self._join()

  def _join(self) -> None:
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # for CPUs alone
    try:
      jax.distributed.initialize(self.coordinator or None, self.count, self.index)
    except (RuntimeError, ValueError) as error:
      said = " ".join(str(error).split())[:160]
      where = f"at {self.coordinator}" if self.coordinator else "by what the cluster tells"
      raise UserError(
        f"the other processes were not found {where}: start all of them, each with its own"
        f" --process_index, and the same --coordinator_address ({said})"
      ) from error


def _await(address: str) -> None:
  """Returns when somebody listens at `HOST:PORT`: JAX's own client aborts where nobody does.

  Raises:
    UserError: that is no address, or nobody came in `PATIENCE` seconds.
  """
  host, colon, port = address.rpartition(":")
  if not colon or not port.isdecimal():
    raise UserError(f"--coordinator_address={address}: must be HOST:PORT, such as 10.0.0.1:1234")
  until = time.monotonic() + PATIENCE
  while True:
    try:
      socket.create_connection((host, int(port)), timeout=PATIENCE).close()
      return
    except OSError as error:
      if time.monotonic() >= until:
        raise UserError(
          f"no process 0 listens at {address} ({error}): start it with the same"
          " --coordinator_address, and --process_index=0"
        ) from error
    time.sleep(0.2)


def number(flag: str, value: str) -> int:
  """A flag's whole number.

  Raises:
    UserError: it is none.
  """
  if not value.lstrip("-").isdecimal():
    raise UserError(f"{flag}={value}: must be a whole number")
  return int(value)
