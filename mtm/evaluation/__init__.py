"""Evaluation without TensorFlow: few-shot questions, their metrics, and lm-evaluation-harness."""
