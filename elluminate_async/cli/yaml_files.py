"""YAML, as far as specs need it: no tags of Python's, and no key twice."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from elluminate_async.errors import InputError, MissingExtraError


def parse_yaml(text: str, path: str) -> object:
    """The content of a YAML file.

    Raises:
        InputError: It is none, or has a key twice; the text names the line.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("a spec in YAML", "cli") from None

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice, of which the last would win unseen."""

        def construct_mapping(
            self, node: yaml.MappingNode, deep: bool = False
        ) -> dict[Hashable, Any]:
            seen: set[object] = set()
            for key_node, _ in node.value:
                key = key_node.value
                if key in seen:
                    line = key_node.start_mark.line + 1
                    raise InputError(f"{path}, line {line}: the key {key!r} is there twice")
                seen.add(key)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{line}: no YAML: {error.problem}") from None
    except InputError:
        raise
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        # Of a date that is none, a list as a key, a number of thousands of digits.
        raise InputError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
