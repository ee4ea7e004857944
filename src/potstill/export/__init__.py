"""A fine-tuned run becomes a bundle: graph, gate, folder."""
