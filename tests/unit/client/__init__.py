"""The portal in Python and in a terminal."""
