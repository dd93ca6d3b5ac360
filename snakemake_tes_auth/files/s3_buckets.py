"""A bucket that a job is the first to write to is made before its task: Snakemake's S3 plugin makes it when it stores a
file, and no TES does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)
HOME = "us-east-1"  # S3's own region is the one that no bucket may be told to be in


class NewBuckets:
    """Each bucket is asked for once in a process."""

    def __init__(self) -> None:
        self._known: set[tuple[int, str]] = set()

    def need(self, stored: Iterable[Any]) -> None:
        """`stored`: Snakemake's storage objects of what a job writes; those of other plugins than S3's are passed over.
        A bucket that may not be made is left to the TES, which says why it cannot write there.
        """
        for one in stored:
            bucket, exists = getattr(one, "bucket", None), getattr(one, "bucket_exists", None)
            if bucket is None or not callable(exists) or (key := (id(one.provider), str(bucket))) in self._known:
                continue
            self._known.add(key)
            try:
                if not exists():
                    region = str(getattr(one.provider.settings, "region", None) or HOME)
                    where = {} if region == HOME else {"CreateBucketConfiguration": {"LocationConstraint": region}}
                    one.provider.s3c.create_bucket(Bucket=bucket, **where)
            except Exception as error:
                log.warning("The bucket %s could not be looked for or made: %s", bucket, type(error).__name__)
