"""`python -m snakemake_tes_auth.pod`: the entry point of a Snakemake pod."""

import sys

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # its command line; httpx does without

from snakemake_tes_auth.pod.ahead import main  # noqa: E402

sys.exit(main())
