"""A workflow's images without internet: from a registry into a folder, and from there to where a node runs them."""
