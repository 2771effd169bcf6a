"""Files named as plugins, imported as modules below this one.

A class of such a file pickles by its module's name, as any class does. A worker process that is
spawned, and not forked, imports that module again: it finds the file by an environment variable
that its parent leaves it, and refuses a file that has changed since.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

VARIABLE = "FLEXBERT_PLUGIN_FILES"
# What makes Python look for modules below this one.
__path__: list[str] = []


def sha256_of(path: Path) -> str:
    """The hash of a file's contents, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def import_file(path: Path, sha256: str) -> ModuleType:
    """Run a file as a module, again if it has run already."""
    place = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"{__name__}.{path.stem}_{place}"
    os.environ[VARIABLE] = json.dumps({**_files(), name: {"path": str(path), "sha256": sha256}})
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def _files() -> Mapping[str, Mapping[str, str]]:
    """Path and hash of each file, by its module's name."""
    files: Mapping[str, Mapping[str, str]] = json.loads(os.environ.get(VARIABLE, "{}"))
    return files


class _Loader(SourceFileLoader):
    """Runs the file's own text, whatever a cache of compiled files holds."""

    sha256 = ""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        if hashlib.sha256(source).hexdigest() != self.sha256:
            raise ImportError(f"{self.path} has changed since this process's parent imported it")
        code: CodeType = self.source_to_code(source, self.path)
        return code


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        file = _files().get(fullname)
        if file is None:
            return None
        loader = _Loader(fullname, file["path"])
        loader.sha256 = file["sha256"]
        return spec_from_file_location(fullname, file["path"], loader=loader)


sys.meta_path.append(_Finder())
