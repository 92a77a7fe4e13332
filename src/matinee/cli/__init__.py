"""`matinee <verb>`: answers people by default and programs with `--json`."""
