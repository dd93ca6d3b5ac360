"""The broker's database."""
