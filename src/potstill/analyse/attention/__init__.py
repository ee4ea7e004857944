"""What a classifier attends to, what its outputs rest on, and what fine-tuning changed."""
