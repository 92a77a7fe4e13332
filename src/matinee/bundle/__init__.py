"""The immutable folder that a run makes and a server opens: checksummed, never pickled, mapped into memory."""
