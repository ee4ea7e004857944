"""Temperature and thresholds as a section of the report."""
