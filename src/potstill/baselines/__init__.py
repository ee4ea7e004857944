"""Models that are no transformers, trained on the task alone: what every comparison should begin with."""
