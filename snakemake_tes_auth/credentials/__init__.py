"""Where access tokens come from."""
