"""`python -m snakemake_tes_auth.pod`: the entry point of a Snakemake pod."""

import sys

from snakemake_tes_auth.pod.snakemake_pod import main

sys.exit(main())
