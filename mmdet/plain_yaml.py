"""Read YAML from anywhere: plain values only, and no more of them than a file of this size suggests."""

from typing import Any

MAX_VALUES = 200_000  # aliases and merge keys (<<) counted as often as they are used


def load_yaml(text: str) -> Any:
    """Return the values of a YAML document.

    Raises:
        ValueError: not YAML, an alias inside what it stands for, or more than MAX_VALUES values.
    """
    import yaml  # here: tools answer --help without it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    finally:
        loader.dispose()


def _count(node: Any, known: dict[int, int]) -> int:
    """Return the number of values below a node; `known` holds those of nodes seen before, 0 while open."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("an alias stands inside what it stands for")
        return known[id(node)]
    known[id(node)] = 0
    children = node.value if isinstance(node.value, list) else []
    total = 1
    for child in children:
        total += sum(_count(part, known) for part in (child if isinstance(child, tuple) else (child,)))
        if total > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
    known[id(node)] = total
    return total
