"""Statistics of measured values; no torch."""
