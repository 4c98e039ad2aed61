"""Figures: arrays in, matplotlib Figure out; no torch, no pandas, no pyplot."""
