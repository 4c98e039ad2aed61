"""Whether the instruments may be trusted with a model: each run once on it, and held to something independent."""
