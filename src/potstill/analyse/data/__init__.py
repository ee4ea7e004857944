"""The study of a data set: one pass over rows on disk."""
