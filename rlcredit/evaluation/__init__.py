"""Scores of held-out prompts: what grades them, their statistics, and how they are kept."""
