"""Catalogues of datasets: FAIR Data Points and DCAT-AP documents that the operator links."""
