"""Running it: servers under a supervisor behind a balancer, and two balancers behind one address."""
