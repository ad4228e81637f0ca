"""Reading a YAML file that may have been written to do harm.

Its nodes are looked at before any value is made of them: there the lines are known, and aliases
that would grow beyond all bounds are still small.
"""

import warnings
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from imgpipe.wording import shorten, word_error

_LARGEST_FILE = 128 << 10  # bytes; ruamel.yaml may take some seconds for as much
_MOST_NODES = 100_000  # all aliases written out
_LONGEST_NUMBER = 100  # characters
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("bool", "float", "int", "map", "merge", "null", "seq", "str", "timestamp")
)


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file of plain values.

    Returns:
        What stands in it: numbers, strings, dates, lists and mappings; None for an empty file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is too large, not YAML, nested too deep, has a key twice, a tag of its own,
            or aliases that lead to themselves or to too much.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ValueError(
            f"{path.name}: is larger than {_LARGEST_FILE:,} bytes; remove blocks that are not used"
        )
    yaml = YAML(typ="safe", pure=True)
    with warnings.catch_warnings(action="ignore"):  # of an anchor's name used anew
        try:
            node = yaml.compose(content.decode("utf-8-sig"))
        except Exception as error:  # on odd files ruamel.yaml raises more than its own errors
            raise _not_yaml(path, error) from None
        if node is None:
            return None
        if fault := _find_fault(node, {}):
            raise ValueError(f"{path.name}: {fault}")
        try:
            return yaml.constructor.construct_document(node)
        except Exception as error:  # `!!float x` raises ValueError, `!!bool x` KeyError
            raise _not_yaml(path, error) from None


def _not_yaml(path: Path, error: Exception) -> ValueError:
    if isinstance(error, RecursionError):
        reason = "is nested too deep"
    elif isinstance(error, MarkedYAMLError) and (error.problem_mark or error.context_mark):
        mark = error.problem_mark or error.context_mark
        reason = f"line {mark.line + 1}: {error.problem or error.context}"
    else:
        reason = word_error(error)
    return ValueError(f"{path.name}: not valid YAML: {shorten(reason, 200)}; mend it")


def _find_fault(root: Node, counts: dict[int, int | None]) -> str:
    """Word the first fault of a node and those below it; return "" if there is none.

    Args:
        root: of the nodes.
        counts: node by its id to the number of nodes below it with all aliases written out, or
            None while it is being counted; filled here.
    """
    line = f"line {root.start_mark.line + 1}"
    if str(root.tag) not in _TAGS:
        tag = shorten(str(root.tag).replace("tag:yaml.org,2002:", "!!"))
        return f"{line}: the tag {tag}; remove it, only plain values are read"
    counts[id(root)] = None
    children = root.value
    if isinstance(root, ScalarNode):
        children = []
        is_number = str(root.tag).endswith((":int", ":float"))
        if is_number and len(root.value) > _LONGEST_NUMBER:
            return f"{line}: a number of {len(root.value):,} characters; give a smaller one"
    elif isinstance(root, MappingNode):
        seen = set()
        for key, _ in root.value:
            key_line = f"line {key.start_mark.line + 1}"
            if not isinstance(key, ScalarNode):
                return f"{key_line}: a key that is a list or mapping; give it a name"
            if key.value in seen:
                return f"{key_line}: key {shorten(key.value)} stands twice; remove one"
            seen.add(key.value)
        children = [node for pair in root.value for node in pair]
    total = 1
    for child in children:
        if id(child) not in counts and (fault := _find_fault(child, counts)):
            return fault
        if counts[id(child)] is None:
            return f"{line}: an alias that leads to itself; write out what it means"
        total += counts[id(child)]
    if total > _MOST_NODES:
        return f"{line}: aliases that stand for over {_MOST_NODES:,} values; write out what is used"
    counts[id(root)] = total
    return ""
