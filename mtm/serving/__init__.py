"""A trained model that answers many at once: see `mtm.serve` and `mtm.chat`."""
