"""potstill turns a large BERT-class text encoder into a small, fast one, proves what it kept, and ships it."""
