"""matinee: from a stream of what people watch and rate to recommendations, and back.

The folders of this package follow the data, left to right: `log` → `ingest` → `lake` (and `history`) →
`dataset` → `models` → `evaluation` → `training` → `bundle` → `release` → `serving`. See ARCHITECTURE.md.
"""

__version__ = "0.1.0"
