"""From a task to batches: the only package, with `tasks/`, that knows SeqIO and TensorFlow."""
