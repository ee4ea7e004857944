"""An ablation as a page."""
