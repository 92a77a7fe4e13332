"""Which bundle answers whom."""
