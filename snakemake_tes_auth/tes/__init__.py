"""The client of a TES."""
