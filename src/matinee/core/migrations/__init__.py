"""Migrations of the control database's schema."""
