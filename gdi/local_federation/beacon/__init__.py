"""A public Beacon v2 of allele frequencies over files as GDI's mini-node has them. A stand-in for tests and the
demo.
"""
