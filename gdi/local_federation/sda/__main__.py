"""`python -m gdi.local_federation.sda --config FILE`: an archive's download service, until SIGTERM."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gdi.kit.serving import bind, serve
from gdi.kit.settings import SettingsError
from gdi.local_federation.sda.app import create_app
from gdi.local_federation.sda.config import load
from gdi.local_federation.sda.crypt import NotCrypt4GH


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gdi.local_federation.sda", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file; see gdi/local_federation/sda/config.py")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    args = parser.parse_args()
    try:
        config = load(args.config)
        app = create_app(config)
        listener = bind(config.host, config.port)
    except (SettingsError, NotCrypt4GH, OSError, ValueError) as error:
        print(f"sda: {error}", file=sys.stderr)
        return 2
    base = f"http://{config.host}:{listener.getsockname()[1]}"
    return serve(app, listener, base, ready_file=config.ready_file, with_parent=args.with_parent)


if __name__ == "__main__":
    sys.exit(main())
