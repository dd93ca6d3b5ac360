"""What every room may use: problems, canonical JSON, JSON web tokens, the workflow catalogue's model. No room's
business.
"""
