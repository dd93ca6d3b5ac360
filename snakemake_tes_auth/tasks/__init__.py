"""What a TES task looks like, why it failed, what it used."""
