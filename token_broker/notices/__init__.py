"""Telling people: what is due, how it is said, how it is sent."""
