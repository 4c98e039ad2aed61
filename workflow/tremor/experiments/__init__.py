"""Experiments: each points an instrument at a model and writes its artifacts."""
