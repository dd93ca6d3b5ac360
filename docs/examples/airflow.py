"""A portal that speaks with the broker and with Airflow's own REST API: `pip install apache-airflow-client httpx`.

Besides the environment of start.sh it needs GDI_BROKER, GDI_AIRFLOW and GDI_AIRFLOW_TOKEN: a token of the portal's own
Airflow account (`POST /auth/token`), which the broker's enrolment lists under `airflow_users`.
"""

import json
import os
import sys
import time
import uuid

import airflow_client.client as airflow
import httpx

workflow, parameters = os.environ["GDI_WORKFLOW"], {"datasets": json.loads(os.environ["GDI_DATASETS"])}
broker = httpx.Client(
    base_url=os.environ["GDI_BROKER"], headers={"Authorization": f"Bearer {os.environ['GDI_TOKEN']}"}, timeout=60
)
grant = {"workflows": [workflow], "datasets": parameters["datasets"], "expires_at": time.time() + 86400}
consent = broker.post("/v1/grants", json=grant).raise_for_status().json()
name = f"portal-{uuid.uuid4()}"
request = {"workflow": workflow, "parameters": parameters, "dag_run_id": name}
ticket = broker.post(f"/v1/grants/{consent['id']}/tickets", json=request).raise_for_status().json()["ticket"]

access = airflow.Configuration(host=os.environ["GDI_AIRFLOW"], access_token=os.environ["GDI_AIRFLOW_TOKEN"])
with airflow.ApiClient(access) as client:
    runs = airflow.DagRunApi(client)
    start = airflow.TriggerDAGRunPostBody(dag_run_id=name, logical_date=None, conf={"ticket": ticket, **parameters})
    for _ in range(5):
        try:
            runs.trigger_dag_run(workflow, start)
            break
        except airflow.ApiException as error:  # 409: an earlier try arrived
            if error.status == 409:
                break
            if error.status is None or error.status < 500:
                sys.exit(f"Airflow refused the start with {error.status}")
            time.sleep(2)
    while (state := runs.get_dag_run(workflow, name).state) not in ("success", "failed"):
        time.sleep(2)
print(name, state)
if state != "success":
    sys.exit("its task `admit` or `analyse` says why, in Airflow")
answer = httpx.get(
    f"{os.environ['GDI_AIRFLOW']}/gdi/file/{workflow}/{name}",
    params={"name": "answer.tsv"},
    headers={"Authorization": f"Bearer {os.environ['GDI_AIRFLOW_TOKEN']}"},
    timeout=60,
)
print(answer.raise_for_status().text)
