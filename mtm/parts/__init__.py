"""The shared parts of every model: the only place, with `families`, that knows Flax Linen."""
