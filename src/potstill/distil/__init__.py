"""Teacher → student."""
