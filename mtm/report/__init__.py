"""What a person reads of a run: progress, plots, tables, the summary and the card.

Everything here takes plain numbers, dicts and paths, and knows no model and no training loop.
"""
