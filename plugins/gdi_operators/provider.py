"""What Airflow's provider manager reads by the entry point `apache_airflow_provider`: the connection type and its form.
Imports next to nothing.
"""

from __future__ import annotations

from typing import Any

from gdi.kit.version import installed

TYPE = "gdi_token_broker"


def get_provider_info() -> dict[str, Any]:  # Airflow's provider_info schema
    """The package name must be the distribution's. Fields of the form as Airflow's own providers write them
    (provider.yaml, `conn-fields`).
    """
    return {
        "package-name": installed("apache-airflow-providers-gdi")[0],
        "name": "GDI workflows",
        "description": "Operators, hook and triggers for federated analyses by the GDI token broker.",
        "connection-types": [
            {
                "connection-type": TYPE,
                "hook-class-name": "gdi_operators.hooks.token_broker.TokenBrokerHook",
                "hook-name": "GDI token broker",
                "conn-fields": {
                    "identity_token_file": {
                        "label": "Identity token file",
                        "description": (
                            "Where the platform keeps Airflow's workload identity token up to date, as its processes"
                            " see it. No secret."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "password", "port", "schema", "extra"],
                    "relabeling": {"host": "Broker URL"},
                    "placeholders": {
                        "host": "https://broker.example.org",
                        "identity_token_file": "/var/run/secrets/gdi/token",
                    },
                },
            }
        ],
    }
