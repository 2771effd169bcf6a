"""A folder of small packages in the place of what is installed; always the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from flexbert.tasks.offline.definitions import Module, read_module
from flexbert.tasks.offline.installed import DISTRIBUTIONS, SourceFile, source_files

PACKAGES = ("pandas", "rich", "scipy", "sympy")
NUM_MODULES = 32
NUM_FUNCTIONS = 6
_SYLLABLES = ("ba", "do", "fe", "gi", "ku", "lo", "ma", "ne", "ri", "su", "ta", "vo")


def write_packages(site: Path, packages: Sequence[str] = PACKAGES, version: str = "1.0") -> None:
    """Packages whose functions are documented, name each other, and have nothing in common."""
    for package in packages:
        write_package(site, package, version)


def write_package(site: Path, package: str, version: str) -> None:
    folder = site / package
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    record = site / f"{DISTRIBUTIONS[package].replace('-', '_')}-{version}.dist-info"
    record.mkdir()
    name = f"Name: {DISTRIBUTIONS[package]}\nVersion: {version}\n"
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\n{name}")
    for number in range(NUM_MODULES):
        draw = random.Random(f"{package} {number}")
        functions = [_function(draw, number, place) for place in range(NUM_FUNCTIONS)]
        source = "import os\n\n\n" + "\n\n".join(functions)
        (folder / f"module_{number:02}.py").write_text(source)


def words(draw: random.Random, count: int) -> list[str]:
    return ["".join(draw.choices(_SYLLABLES, k=3)) for _ in range(count)]


def _function(draw: random.Random, number: int, place: int) -> str:
    first, second, third, fourth = words(draw, 4)
    text, further = (" ".join(words(draw, 12)) for _ in range(2))
    other = f"make_{number}_{(place + 1) % NUM_FUNCTIONS}"
    section = f"See Also\n    --------\n    {other} : The next one.\n" if place < 2 else ""
    return f'''def make_{number}_{place}({first}, {second}=1):
    """Compute {text}.

    Further {further}.

    {section}
    """
    # {" ".join(words(draw, 6))}
    {third} = {first}.{fourth}({second}, os.{words(draw, 1)[0]})
    if {third} > {second}:
        return {third}
    return {words(draw, 1)[0]}({second}={first})
'''


def modules_of(site: Path, packages: Sequence[str] = PACKAGES) -> list[Module]:
    files = [file for package in packages for file in source_files(package, [str(site)])]
    modules = [read_module(file) for file in files]
    return [module for module in modules if module is not None]


def module_of(path: Path, source: str | bytes) -> Module | None:
    """What is read from one file."""
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return read_module(SourceFile(package="scipy", module="scipy/one.py", path=path))
