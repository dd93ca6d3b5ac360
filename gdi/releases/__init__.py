"""Kinds of release: what a node checks before numbers leave it, and how the coordinator makes one answer of them. One
folder a kind.
"""
