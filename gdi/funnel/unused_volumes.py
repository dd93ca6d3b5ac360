"""`python -m gdi.funnel.unused_volumes [SECONDS]`: runs beside Funnel's server and deletes the PersistentVolumes that
nothing uses.

Funnel (tag 2024-03-03, compute/kubernetes/backend.go) makes one for each task, whether it is needed or not, and deletes
none. The chart lets a storage class serve the tasks' claims, so these are bound to nothing, ever (files/pv.yaml);
without this a node would keep one for each task that it ran.
"""

from __future__ import annotations

import logging
import sys
import time

from gdi.funnel.cluster import Cluster, ClusterError

log = logging.getLogger(__name__)
PATH = "/api/v1/persistentvolumes"
CLASS, LABEL = "gdi-unused", "app=funnel"
EVERY = 60.0


def sweep(cluster: Cluster) -> int:
    """Deletes those that there are; how many. ClusterError."""
    found = (cluster.get(PATH, labelSelector=LABEL, limit="500") or {}).get("items") or []
    unused = [v for v in found if v["spec"].get("storageClassName") == CLASS and not v["spec"].get("claimRef")]
    for volume in unused:
        cluster.delete(f"{PATH}/{volume['metadata']['name']}")
    return len(unused)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    every = float(sys.argv[1]) if len(sys.argv) > 1 else EVERY
    cluster = Cluster()
    while True:
        try:
            sweep(cluster)
        except ClusterError as error:
            log.warning("PersistentVolumes that nothing uses are not deleted now: %s", error)
        time.sleep(every)


if __name__ == "__main__":
    main()
