"""Token mixers that may stand where attention stands."""
