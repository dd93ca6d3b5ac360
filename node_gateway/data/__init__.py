"""Data to the node's own TES: a capability in, Crypt4GH for the registered key out, with a fresh token of the user at
each read.
"""
