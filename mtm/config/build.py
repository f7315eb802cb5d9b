"""Makes the objects that a checked config describes.

gin's run time is not used: it keeps one global state, and hands out a wrapper where a config says
`@f`. Here several configs live side by side, and `@f` without bindings is `f` itself, so that
comparing and hashing functions (as `jax.jit` does) means what it says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtm.config.names import Configurable
from mtm.config.program import Program
from mtm.config.source import Macro, Reference, Scope, Statement


class Builder:
  """Calls what the config refers to, anew at each reference, as gin does."""

  def __init__(self, program: Program) -> None:
    self._program = program

  def call(self, configurable: Configurable, scope: Scope) -> Any:
    """What the function returns when given all that is bound in this scope."""
    return configurable.target(**self._arguments(configurable, scope, ()))

  def arguments(self, configurable: Configurable, names: Sequence[str]) -> dict[str, Any]:
    """What is bound to these of its parameters."""
    others = tuple(name for name in self._program.bound(configurable, ()) if name not in names)
    return self._arguments(configurable, (), others)

  def macro(self, name: str) -> Any:
    """The value of a macro."""
    statement = self._program.winner(self._program.macros[name])
    return self._value(statement.value, statement, Macro(name).scope, ())

  def parts(self, name: str) -> tuple[Callable[..., Any], dict[str, Any]] | None:
    """What a macro calls, and the arguments bound to it; None where its value is no call."""
    statement = self._program.winner(self._program.macros[name])
    value, scope = statement.value, Macro(name).scope
    if not isinstance(value, Reference) or not value.evaluate:
      return None
    target = self._program.target(value, statement)
    return target.target, self._arguments(target, value.scope or scope, ())

  def _arguments(
    self, configurable: Configurable, scope: Scope, given: Mapping[str, Any] | tuple[str, ...]
  ) -> dict[str, Any]:
    """The bound arguments, made; but those that the caller has given."""
    bound = self._program.bound(configurable, scope)
    return {
      name: self._value(statement.value, statement, scope, scope)
      for name, statement in bound.items()
      if name not in given
    }

  def _value(self, value: Any, statement: Statement, scope: Scope, caller: Scope) -> Any:
    """See `check._Walker.value`, which goes the same way."""
    make = functools.partial(self._value, statement=statement, scope=scope, caller=caller)
    if isinstance(value, Macro):
      inner = self._program.winner(self._program.macros[value.name])
      return self._value(inner.value, inner, value.scope, caller)
    if isinstance(value, Reference):
      target = self._program.target(value, statement)
      if value.evaluate:
        return self.call(target, value.scope or scope)
      return self._function(target, value.scope or caller)
    if isinstance(value, Mapping):
      return {make(key): make(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
      return type(value)(map(make, value))
    return value

  def _function(self, configurable: Configurable, scope: Scope) -> Callable[..., Any]:
    """The function with its bindings; what a caller gives goes before them."""
    if not self._program.bound(configurable, scope):
      return configurable.target
    positional = list(configurable.named)

    @functools.wraps(configurable.target, updated=())
    def bound(*args: Any, **kwargs: Any) -> Any:
      given = (*positional[: len(args)], *kwargs)
      return configurable.target(*args, **self._arguments(configurable, scope, given), **kwargs)

    return bound
