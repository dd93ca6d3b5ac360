"""The run's live page in Airflow's UI."""
