"""The portal in Python: `PortalClient`, `AsyncPortalClient`, over the API's own models; answers as polars or pandas.

from gdi.client import PortalClient, stored_login
with PortalClient.signed_in() as portal:
    run = portal.start("allele-frequency", ["EGAD50000000001"], {"regions": 4}, consent_days=30)
    print(portal.wait(run.id).sentence)
    frame = portal.frame(run.id, "answer.tsv")
"""

from gdi.client.async_client import AsyncPortalClient
from gdi.client.client import PortalClient
from gdi.client.login import DeviceLogin, StoredLogin, stored_login
from gdi.kit.problem import ProblemError

__all__ = ["AsyncPortalClient", "DeviceLogin", "PortalClient", "ProblemError", "StoredLogin", "stored_login"]
