"""One run: snapshot → checks → fit → evaluate → gate → bundle. A run can be repeated from its manifest."""
