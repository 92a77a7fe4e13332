"""Collaborative filtering: arrays in, arrays out. Names are imported when first used."""
