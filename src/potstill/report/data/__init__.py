"""The study of a data set as a page."""
