"""The HTTP service: always an answer inside its deadline, and a record of each."""
