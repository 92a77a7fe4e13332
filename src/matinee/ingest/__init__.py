"""From the log, or a file, to events: classified, freed of duplicates, and kept in history and lake."""
