"""What made a run: its ``manifest.json``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flexbert.config.encode import encode
from flexbert.config.plain_values import as_dict, count, dict_of, number, text, value_of
from flexbert.config.plugins import Plugin
from flexbert.errors import UserError, first_line
from flexbert.files.durable import write_text
from flexbert.files.regular import load_json

MANIFEST = "manifest.json"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CorpusRecord:
    """A corpus as it was when the run was launched.

    Attributes:
        path: its folder.
        splits: fingerprint of the data, by the split's name.
    """

    path: str
    tokenizer_sha256: str
    splits: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """A stage's corpora, by source."""

    corpora: Mapping[str, CorpusRecord]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One start of the run's command.

    Attributes:
        time: in UTC, ISO 8601.
        after_step: the run's last update before it.
        device: a GPU's make, or a CPU's threads.
        plugins: what the recipe imported for its components, with versions.
        packages: version by name; None if a package is not installed.
    """

    command: tuple[str, ...]
    time: str
    after_step: int
    processes: int
    device: str
    platform: str
    python: str
    flexbert: str
    plugins: tuple[Plugin, ...] = ()
    packages: Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The code, the environment and the data of a run.

    Attributes:
        parameters: how many the model has in all.
        stages: by name, in order.
        unigram_entropy: of the validation split, in nats per token, where it was measured.
        launches: oldest first.
    """

    run_name: str
    parameters: int
    stages: Mapping[str, StageRecord]
    unigram_entropy: float | None = None
    launches: tuple[Launch, ...] = ()

    def write(self, run_folder: Path) -> None:
        """Write ``manifest.json`` atomically."""
        write_text(run_folder / MANIFEST, json.dumps(encode(self), indent=2) + "\n")

    @classmethod
    def read(cls, run_folder: Path) -> Manifest:
        """Read ``manifest.json``; keys that this version does not know are passed over.

        Raises:
            UserError: if there is none, or a value that a reader needs is missing.
        """
        file = run_folder / MANIFEST
        if not file.is_file():
            raise UserError(
                f"{run_folder}: no {MANIFEST} there; give the folder of a run, runs/NAME"
            )
        try:
            return _manifest(as_dict(load_json(file)))
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}: not the manifest of a run ({first_line(error)})") from error


def _manifest(plain: Mapping[str, Any]) -> Manifest:
    entropy = plain.get("unigram_entropy")
    return Manifest(
        run_name=value_of(plain, "run_name", text),
        parameters=value_of(plain, "parameters", count),
        stages={
            name: StageRecord(
                corpora={
                    source: _known(CorpusRecord, corpus)
                    for source, corpus in dict_of(stage, "corpora", as_dict).items()
                }
            )
            for name, stage in dict_of(plain, "stages", as_dict).items()
        },
        unigram_entropy=None if entropy is None else number(entropy),
        launches=tuple(_launch(as_dict(launch)) for launch in _list(plain["launches"])),
    )


def _launch(plain: Mapping[str, Any]) -> Launch:
    plugins = map(Plugin.parse, _list(plain.get("plugins", [])))
    return _known(
        Launch,
        {
            **plain,
            "command": tuple(map(text, _list(plain["command"]))),
            "after_step": value_of(plain, "after_step", count),
            "plugins": tuple(plugins),
        },
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _known(record: type[T], values: Mapping[str, Any]) -> T:
    """A record of those values that it has a field for."""
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    return record(**{name: values[name] for name in names if name in values})
