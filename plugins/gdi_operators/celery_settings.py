"""Celery's settings as Airflow makes them, and what a worker imports before it forks:
AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS names CELERY_CONFIG.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

CELERY_CONFIG: dict[str, Any] = {**DEFAULT_CELERY_CONFIG, "imports": ["gdi_operators.preload"]}
