"""All that other rooms know of the token broker: its types and a small client."""
