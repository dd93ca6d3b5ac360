"""Figures of the Airflow side, each with what it has to be: `make bench-airflow`."""
