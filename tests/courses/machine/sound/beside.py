"""A module beside the checks."""

WARMTH = "warm"
