"""What each user did lately, readable by every server within a fraction of a second of the event."""
