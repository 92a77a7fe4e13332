"""Metrics, full ranking only, and comparison of models by paired bootstrap. Names are imported when first used."""
