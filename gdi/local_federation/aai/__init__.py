"""LS AAI and REMS in one small honest process: OpenID provider with strict rotation, visas with `jku`, and knobs for
tests. Not for production.
"""
