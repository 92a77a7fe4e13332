"""The vocabulary of events, the envelope they travel in, and reading a line, repairing it, or saying why not."""
