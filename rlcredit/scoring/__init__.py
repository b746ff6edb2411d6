"""Scoring: what responses, their segments and candidates earn, and the credit that follows."""
