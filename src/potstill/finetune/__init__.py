"""Encoder → classifier, with or without a teacher on the task."""
