"""What is known of files without reading them: metadata, listings, queries."""
