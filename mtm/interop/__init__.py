"""Checkpoints of other libraries: read, checked, and written back."""
