"""The broker's own pages: sign in, consent, see and revoke one's grants."""
