"""What a person looks at: figures, the page, the model card."""
