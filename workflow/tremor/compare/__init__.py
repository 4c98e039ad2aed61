"""The comparer: two recordings of one model on two platforms; where they part, by how much; no torch."""
