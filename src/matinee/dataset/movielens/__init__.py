"""The MovieLens data sets: which there are, how to get them, and how to read their published formats."""
