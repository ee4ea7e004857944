"""The study of failures: wrong predictions, the slices they gather in, labels in doubt."""
