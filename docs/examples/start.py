"""From a user's token to results, in Python. The environment as in start.sh; needs httpx."""

import json
import os
import sys
import time
import uuid

import httpx

portal = httpx.Client(
    base_url=os.environ["GDI_PORTAL"], headers={"Authorization": f"Bearer {os.environ['GDI_TOKEN']}"}, timeout=60
)


def call(method: str, path: str, **options: object) -> httpx.Response:
    """The answer; what is refused ends the program with the server's own sentence and what to do."""
    for _ in range(5):
        answer = portal.request(method, path, **options)
        if answer.status_code not in (429, 503):
            break
        time.sleep(int(answer.headers.get("Retry-After", 2)))
    if answer.is_error:
        problem = answer.json()
        sys.exit(f"{problem['detail']} {problem['action']} ({problem['type']})")
    return answer


start = {
    "workflow": os.environ["GDI_WORKFLOW"],
    "datasets": json.loads(os.environ["GDI_DATASETS"]),
    "consent": {"days": 1},
}
key = {"Idempotency-Key": str(uuid.uuid4())}  # the same for each try
run = call("POST", "/v1/runs", json=start, headers=key).json()
while run["state"] not in ("succeeded", "empty", "failed", "refused", "stopped"):
    time.sleep(2)
    run = call("GET", f"/v1/runs/{run['id']}").json()
print(run["sentence"], file=sys.stderr)
for file in call("GET", f"/v1/runs/{run['id']}/results").json()["files"]:
    if file["name"] == "answer.tsv":
        print(call("GET", file["url"]).text, end="")
