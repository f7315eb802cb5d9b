"""Prompts as data: templates over records, sets of records with their templates, exemplars.

Nothing here needs TensorFlow. `mtm.tasks` holds the sets, `library.find(name)` finds one, and
`mtm.data.sources.prompted` makes SeqIO tasks of them.
"""
