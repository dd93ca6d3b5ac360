"""Access committees: what became of their datasets, and stops that hold wherever a token would be handed out."""
