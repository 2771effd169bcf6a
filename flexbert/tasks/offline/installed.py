"""Which installed packages and which of their files the offline tasks are made of.

Packages are named here, so that others that happen to be installed change nothing. They come with
FlexBERT's own requirements; one that is missing is left out. Those of the quickstart's corpus are
not among them: a model that was trained on it has not seen these texts.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

import xxhash

from data_prep.demo import LEFT_OUT, PACKAGES
from flexbert.tasks.offline.keyed_order import keyed_order

# Changes whenever the same packages would give other rows.
GENERATOR_VERSION = 1
# Import names, and the distributions that bring them.
DISTRIBUTIONS: Mapping[str, str] = {
    "PIL": "pillow",
    "composer": "mosaicml",
    "fontTools": "fonttools",
    "huggingface_hub": "huggingface-hub",
    "matplotlib": "matplotlib",
    "mpmath": "mpmath",
    "networkx": "networkx",
    "numba": "numba",
    "pandas": "pandas",
    "rich": "rich",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "streaming": "mosaicml-streaming",
    "sympy": "sympy",
    "torch": "torch",
    "torchmetrics": "torchmetrics",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "wandb": "wandb",
}
# Tests, and copies of other packages.
_FOLDERS_LEFT_OUT = LEFT_OUT | {"_examples", "externals", "extern", "vendor", "vendored"}
# A longer file is made by a program, or costs more to parse than its rows are worth.
LARGEST_FILE = 300_000
# Of one package. Parsing takes a second for 3 MB.
MOST_BYTES = 2_500_000
_SEE_ALSO = b"See Also"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of a package.

    Attributes:
        package: the import name of the package.
        module: the file's path from the package's parent folder: ``scipy/fft/_basic.py``.
    """

    package: str
    module: str
    path: Path


def installed_versions(search: Sequence[str] | None = None) -> dict[str, str]:
    """The version of each package that is read, by import name, in the order of names.

    Args:
        search: folders in which packages are looked for; where Python looks for them by default.
    """
    found = {}
    for package in sorted(DISTRIBUTIONS):
        if _package_folder(package, search) is not None:
            found[package] = _version(DISTRIBUTIONS[package], search)
    return found


def made_of(versions: Mapping[str, str]) -> str:
    """A fingerprint of what rows depend on: 16 hex digits.

    Python and the packages of the quickstart's corpus count too: texts of theirs are left out.
    """
    own = [f"{package} {version}" for package, version in sorted(versions.items())]
    corpus = [f"{package} {_version(package, None)}" for package in PACKAGES]
    text = "\n".join([f"{GENERATOR_VERSION} {platform.python_version()}", *corpus, *own])
    return xxhash.xxh3_64_hexdigest(text)


def source_files(package: str, search: Sequence[str] | None = None) -> Iterator[SourceFile]:
    """The files of a package that are read, up to ``MOST_BYTES``; no file of a package not there.

    "See Also" sections are rare, so files with one come first; else the order is a hash's.
    """
    root = _package_folder(package, search)
    if root is None:
        return
    with_section: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for path in _own_files(root):
        if 0 < _size(path) <= LARGEST_FILE:
            is_first = _SEE_ALSO in path.read_bytes()
            module = f"{package}/{path.relative_to(root).as_posix()}"
            (with_section if is_first else others)[module] = path
    left = MOST_BYTES
    for paths in (with_section, others):
        for module in keyed_order(paths, "files"):
            size = _size(paths[module])
            if size <= left:
                left -= size
                yield SourceFile(package=package, module=module, path=paths[module])


def _own_files(root: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in _FOLDERS_LEFT_OUT]
        for name in names:
            if name.endswith(".py") and not _is_test(name):
                yield Path(folder, name)


def _package_folder(package: str, search: Sequence[str] | None) -> Path | None:
    spec = PathFinder.find_spec(package, search)
    if spec is None or spec.origin is None or Path(spec.origin).name != "__init__.py":
        return None
    return Path(spec.origin).parent


def _version(distribution: str, search: Sequence[str] | None) -> str:
    folders = list(sys.path if search is None else search)
    for found in importlib.metadata.distributions(name=distribution, path=folders):
        return found.version
    return "unknown"


def _is_test(name: str) -> bool:
    return name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py"


def _size(path: Path) -> int:
    """Bytes of a regular file; 0 for anything else."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
