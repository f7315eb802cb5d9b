"""The training loop and what it stands on: state, step, checkpoints, optimizers, schedules."""
