"""The node's pages for its access committee and, on the internal listener, of the audit."""
