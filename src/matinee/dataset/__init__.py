"""From a version of the lake to `Interactions`: ids kept apart from indices, splits, checks, public data sets."""
