"""Bundles behind an HTTP endpoint that existing clients speak, and a page to try them on. No torch, no transformers."""
