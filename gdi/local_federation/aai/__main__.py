"""`python -m gdi.local_federation.aai --config FILE`: LS AAI and REMS on one port, until SIGTERM."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gdi.kit.serving import bind, serve
from gdi.kit.settings import SettingsError
from gdi.local_federation.aai.app import create_app
from gdi.local_federation.aai.config import load


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gdi.local_federation.aai", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file; see gdi/local_federation/aai/config.py")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    args = parser.parse_args()
    try:
        config = load(args.config)
        listener = bind(config.host, config.port)
        base = config.public_url.rstrip("/") or f"http://{config.host}:{listener.getsockname()[1]}"
        app = create_app(config, base)
    except (SettingsError, OSError, ValueError) as error:
        print(f"aai: {error}", file=sys.stderr)
        return 2
    return serve(app, listener, base, ready_file=config.ready_file, with_parent=args.with_parent)


if __name__ == "__main__":
    sys.exit(main())
