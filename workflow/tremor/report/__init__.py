"""The page `results/index.html`: every summary, its key figure, maps to move about in; one file, no network."""
