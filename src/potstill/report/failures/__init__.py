"""Failures as a page, and as a section of the report."""
