"""The documented JSON API under `/v1`: FastAPI over the same service that the short way answers from."""
