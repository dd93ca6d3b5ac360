"""A button from a release task to the node's review page: where a person of the node decides."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from gdi.contracts.ids import make_run_id


def review_page(operator: Any, run: str) -> str:
    """The address at the node. It is made of the broker's plan, not of what the gateway answers: a gateway cannot send
    anybody elsewhere.
    """
    return f"{str(operator.item['gateway_url']).rstrip('/')}/review/{run}/{quote(str(operator.release), safe='')}"


class ReviewLink(BaseOperatorLink):
    """Only http(s) addresses of the plan become a link."""

    name = "Review at the node"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        item = getattr(operator, "item", None)
        if not isinstance(item, dict) or not str(item.get("gateway_url", "")).startswith(("http://", "https://")):
            return ""
        return review_page(operator, make_run_id(ti_key.dag_id, ti_key.run_id))
