"""Reading YAML that somebody else wrote, bounded before anything is built of it; values as text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flexbert.errors import ConfigError, first_line

# Far beyond any recipe, and far below what costs a second or Python's stack.
MOST_BYTES = 1 << 20
MOST_LEVELS = 32
MOST_NODES = 10_000


def read_yaml(text: str) -> Any:
    """Plain containers of a text of YAML: a mapping, or a list, of texts, numbers and the like.

    Raises:
        yaml.YAMLError: if it is not YAML.
        ValueError: if it is longer, deeper or, its aliases written out, larger than any recipe; if
            it is one value alone; if it has a number or a date that there is not.
        ConfigError: with the dotted path of a value that no recipe can hold.
    """
    return _read(text, lambda: OmegaConf.load(io.StringIO(text)))


def read_value(text: str) -> Any:
    """What YAML makes of the value of an override; raises as :func:`read_yaml`."""
    try:
        return _read(text, lambda: OmegaConf.from_dotlist([f"value={text}"]))["value"]
    except ConfigError as error:
        below = error.path.removeprefix("value").removeprefix(".")
        raise ConfigError(below, error.problem) from None


def _read(text: str, load: Callable[[], Any]) -> Any:
    _check_size(text)
    try:
        loaded = load()
        if not isinstance(loaded, DictConfig | ListConfig):
            raise ValueError("holds one value, and no keys")
        plain: Any = OmegaConf.to_container(loaded)
    except OmegaConfBaseException as error:
        raise ConfigError(str(getattr(error, "full_key", None) or ""), first_line(error)) from None
    except OSError:  # what OmegaConf says of one value
        raise ValueError("holds one value, and no keys") from None
    except (AttributeError, LookupError, TypeError):  # what PyYAML makes of !!timestamp or !!bool x
        raise ValueError("a !!tag does not fit its value") from None
    check_tree(plain)
    return plain


class _Dumper(yaml.SafeDumper):
    """Quotes texts that omegaconf's loader reads as numbers too, such as 1e-3."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def value_text(value: Any) -> str:
    """A value as a command line takes it, and a page shows it: YAML in one line."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        # Of a text of several lines the other styles make several.
        default_style='"' if isinstance(value, str) and len(value.splitlines()) > 1 else None,
        width=float("inf"),
        allow_unicode=True,
    )
    return text.strip().removesuffix("\n...").strip()


def check_tree(node: Any, path: str = "", levels: int = 0) -> None:
    """Refuse a tree that is deeper than any recipe, or holds anything but mappings, lists, texts,
    true, false, null, and numbers below 2^63.

    Raises:
        ConfigError: with the dotted path.
    """
    if levels > MOST_LEVELS:
        raise ConfigError(path, f"is nested more than {MOST_LEVELS} levels deep")
    if isinstance(node, Mapping):
        for key, value in node.items():
            # A dotted key is as many nodes.
            deeper = levels + 1 + str(key).count(".")
            check_tree(value, f"{path}.{key}" if path else str(key), deeper)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            check_tree(value, f"{path}.{index}" if path else str(index), levels + 1)
    elif isinstance(node, int) and abs(node) >= 2**63:
        # Not shown: Python writes out no integer of thousands of digits.
        raise ConfigError(path, "is an integer beyond 2^63")
    elif not isinstance(node, str | int | float | None):
        problem = f"is a {type(node).__name__}; a recipe holds texts, numbers, true, false and null"
        raise ConfigError(path, problem)


def _check_size(text: str) -> None:
    """Walk over the text's events, of which nothing is built; an alias counts what it stands for.

    A few lines of aliases to aliases are written out to billions of nodes.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"longer than {MOST_BYTES} characters")
    sizes: dict[str, int] = {}
    depths: dict[str, int] = {}
    # Of each open collection: its anchor, its nodes and its levels so far.
    opened: list[tuple[str | None, int, int]] = [(None, 0, 0)]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        size, depth = 1, 0
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, 1, 1))
            if len(opened) > MOST_LEVELS + 2:
                raise ValueError(f"nested more than {MOST_LEVELS} levels deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size, depth = opened.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands for nothing before it")
            anchor, size, depth = None, sizes[event.anchor], depths[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            anchor = event.anchor
        else:
            continue
        if anchor is not None:
            sizes[anchor], depths[anchor] = size, depth
        outer, nodes, levels = opened[-1]
        opened[-1] = (outer, nodes + size, max(levels, depth + 1))
        if opened[-1][1] > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES} values, its aliases written out")
        if len(opened) + depth > MOST_LEVELS + 2:
            raise ValueError(f"nested more than {MOST_LEVELS} levels deep, its aliases written out")
