"""What every part needs and nothing more: clock, settings, ids, errors, logging, metrics, alarms.

Nothing in here knows of any other part of matinee.
"""
