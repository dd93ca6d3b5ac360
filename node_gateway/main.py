"""`node-gateway`: the two processes of a node, and the operator's commands."""

from __future__ import annotations

import sys

from node_gateway import lean_imports, processes


def main() -> None:
    lean_imports.apply()
    from gdi.kit.database import DatabaseAwayError
    from gdi.kit.migrations import SchemaError
    from gdi.kit.settings import SettingsError

    try:
        match sys.argv[1:]:
            case [] | ["serve"]:
                processes.serve()
            case ["agent"]:
                processes.serve_agent()
            case _:
                processes.log_to_stderr()
                from node_gateway.commands import run

                run()
    except SettingsError as error:
        sys.exit(f"node-gateway: the settings are wrong:\n{error}")
    except (RuntimeError, ValueError, SchemaError, DatabaseAwayError) as error:
        sys.exit(f"node-gateway: {error}")


if __name__ == "__main__":
    main()
