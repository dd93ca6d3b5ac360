"""The OAuth 2 client: one module for each standard, named by it. `client.OAuthClient` is what the other rooms use.

Authlib builds the requests and reads the answers; httpx sends them (docs/decisions/705-authlib-over-httpx.md).
"""
