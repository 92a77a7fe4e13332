"""A streaming service to run against: viewers with tastes, who follow what they are shown."""
