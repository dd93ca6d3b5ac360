"""Where releases and answers lie at the coordinator: one store, a folder or a bucket of an S3, behind one interface.
The broker and Airflow's processes open it each with credentials of their own; they share no disk.
"""
