"""The distribution's name as a package: Airflow looks for a provider's `example_dags` under it. They lie in
gdi_operators.
"""

from gdi_operators import __path__ as __path__
