"""Text → encoder with a masked-language-model head."""
