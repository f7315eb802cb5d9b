"""mtm: pretrain, adapt and evaluate Transformer language models of every kind, in JAX."""

__version__ = "0.1.0"
