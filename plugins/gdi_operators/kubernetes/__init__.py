"""Pods of runs in a cluster, over the clients of Airflow's Kubernetes provider. What a pod is, gdi.pods says."""
