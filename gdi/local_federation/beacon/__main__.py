"""`python -m gdi.local_federation.beacon FOLDER --port N --id org.example.beacon`: a Beacon, until SIGTERM."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gdi.kit.serving import bind, serve
from gdi.local_federation.beacon.app import create_app


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gdi.local_federation.beacon", description=__doc__)
    parser.add_argument("folder", type=Path, help="datasets as GDI's mini-node has them")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--id", default="local.beacon", help="the Beacon's own id")
    parser.add_argument("--name", default="Local Beacon")
    parser.add_argument("--ready-file", type=Path, default=None, help="written once it listens")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    args = parser.parse_args()
    try:
        listener = bind(args.host, args.port)
    except OSError as error:
        print(f"beacon: {error}", file=sys.stderr)
        return 2
    base = f"http://{args.host}:{listener.getsockname()[1]}"
    app = create_app(args.folder, args.id, args.name)
    return serve(app, listener, base, ready_file=args.ready_file, with_parent=args.with_parent)


if __name__ == "__main__":
    sys.exit(main())
