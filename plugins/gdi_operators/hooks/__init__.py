"""How operators talk to the broker and the gateways; one class a file."""
