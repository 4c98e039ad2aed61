"""Documents: text of a PDF file, its words and tokens, windows over it, and what a model says of every token."""
