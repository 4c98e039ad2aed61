"""Scores of single weights, rankings, and exact reversible mutations of them."""
