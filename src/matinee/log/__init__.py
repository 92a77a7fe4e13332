"""The event log that producers and consumers share; back ends are opened by URL."""
