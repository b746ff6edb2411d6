"""Data sets made from a seed: catalogues, prompts and problems whose truth is known."""
