"""Text in, token ids out. No torch here."""
