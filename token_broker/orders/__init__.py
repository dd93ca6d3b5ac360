"""Orders for the nodes' own agents, what they need, and what is heard of nodes."""
