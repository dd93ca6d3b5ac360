"""Events: written, followed, told to the broker once."""
