"""A batch that training refused: saved with its weights, and computed again."""
