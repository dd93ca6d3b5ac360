"""A workflow's configuration as text that keeps its types: integer keys, dates, order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _mapping(dumper: _Dumper, data: Mapping[Any, Any]) -> Any:
    return dumper.represent_mapping("tag:yaml.org,2002:map", list(data.items()), flow_style=True)


def _other(dumper: _Dumper, data: Any) -> Any:
    if isinstance(data, Mapping):
        return _mapping(dumper, data)
    if isinstance(data, list | tuple):
        return dumper.represent_list(list(data))
    # Subclasses of plain types, such as enumerations.
    if isinstance(data, bool):
        return dumper.represent_bool(bool(data))
    if isinstance(data, int):
        return dumper.represent_int(int(data))
    if isinstance(data, float):
        return dumper.represent_float(float(data))
    return dumper.represent_str(str(data))


_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_list(list(data)))
_Dumper.add_multi_representer(object, _other)


def dump(config: Mapping[Any, Any]) -> str:
    """YAML that `yaml.safe_load` reads back as the same values; keys keep their types and their order."""
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=1_000_000)
