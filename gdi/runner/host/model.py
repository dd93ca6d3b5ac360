"""A pod as the process host keeps it."""

from __future__ import annotations

from gdi.contracts.process_host import HostedPod, PodRequest


class PodRecord(HostedPod):
    """In `pod.json` of the pod's folder."""

    request: PodRequest
