"""What a change of a model costs: likelihood of text, answers to facts, and effects against controls."""
