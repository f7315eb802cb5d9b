"""Where text comes from when it does not come from TFDS; readable without TensorFlow."""
