"""The command line: `gdi` and its subcommands."""
