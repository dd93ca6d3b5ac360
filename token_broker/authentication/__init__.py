"""Who calls: people, portals, Airflow, pods and gateways, and what the operator enrolled of them."""
