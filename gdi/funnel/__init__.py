"""What runs in front of, beside or inside Funnel, a node's TES."""
