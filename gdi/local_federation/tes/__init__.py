"""A GA4GH TES 1.1 server, small and honest: one node's task execution service where Funnel is not at hand. `python -m
gdi.local_federation.tes --config FILE`.
"""
