"""What the node gives the pods that its own agent started: run tokens, and a way for their events."""
