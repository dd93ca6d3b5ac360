"""The coordinator's door for people and portals: one API over catalogue, broker and Airflow, and GA4GH WES 1.1."""
