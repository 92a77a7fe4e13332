"""Delta Lake tables: rows and the offset they reach commit together; versions can be read again."""
