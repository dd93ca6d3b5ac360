"""What happens beside the tasks, when Airflow says that a run changed."""
