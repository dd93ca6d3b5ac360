"""A DAG for each operator, as anybody would write one. Start them with conf `{"ticket" or "grant", "datasets": […],
…the workflow's parameters}`.
"""
