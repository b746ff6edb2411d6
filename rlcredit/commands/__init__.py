"""What a person types: commands, their configs, and how components come from these. Knows Hydra."""
