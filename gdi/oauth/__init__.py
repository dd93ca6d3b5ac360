"""The OAuth 2 client of the broker and of the gateway's review sign-in."""
