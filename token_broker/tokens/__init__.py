"""Tokens of providers: kept in Vault, refreshed, narrowed, handed out."""
