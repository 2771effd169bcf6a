"""Writing down what makes a run: the code, the environment, the data and every launch."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence

from composer.utils import dist

from flexbert import __version__
from flexbert.config.plain_values import as_dict, number, value_of
from flexbert.config.plugins import Plugin
from flexbert.config.remote_address import redacted
from flexbert.data.format.corpus_format import SPLITS
from flexbert.data.reading.corpora import Corpora
from flexbert.devices.device_names import device_name
from flexbert.doctor import PACKAGES, package_version
from flexbert.errors import UserError, first_line
from flexbert.files.regular import load_json
from flexbert.files.set_aside import set_aside
from flexbert.manifest_file import CorpusRecord, Launch, Manifest, StageRecord
from flexbert.nn.build import parameter_counts
from flexbert.schedule.stages import Stage
from flexbert.train.device_checks import training_torch_device
from flexbert.train.run_folder import RunFolder

_ENTROPY = "validation_unigram_entropy"


def write_manifest(
    folder: RunFolder,
    stages: Sequence[Stage],
    corpora: Sequence[Corpora],
    step: int,
    command: Sequence[str],
) -> None:
    """Write ``manifest.json``; launches of the same run that came before stay in it.

    Args:
        corpora: of each stage.
        step: the run's last update before this launch.
    """
    earlier = _earlier_launches(folder)
    recipe = stages[0].recipe
    manifest = Manifest(
        run_name=recipe.run_name,
        parameters=parameter_counts(recipe.model).total,
        stages={
            stage.name: StageRecord(corpora=corpus_records(opened))
            for stage, opened in zip(stages, corpora, strict=True)
        },
        unigram_entropy=_unigram_entropy(corpora[0]),
        launches=(*earlier, _launch(step, command, recipe.plugins)),
    )
    manifest.write(folder.path)


def _earlier_launches(folder: RunFolder) -> tuple[Launch, ...]:
    """Those that the run's manifest tells of; one that tells nothing is set aside."""
    if not folder.manifest.exists():
        return ()
    try:
        return Manifest.read(folder.path).launches
    except UserError as error:
        aside = set_aside(folder.manifest)
        print(f"warning: {error}; it is kept as {aside.name}, and begun again", flush=True)
        return ()


def _launch(step: int, command: Sequence[str], plugins: tuple[Plugin, ...]) -> Launch:
    return Launch(
        # A shell puts a variable's value in its place before anybody could keep its name.
        command=tuple(map(redacted, command)),
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        after_step=step,
        processes=dist.get_world_size(),
        device=device_name(training_torch_device()),
        platform=platform.platform(),
        python=platform.python_version(),
        flexbert=__version__,
        plugins=plugins,
        packages={name: package_version(name) for name in PACKAGES},
    )


def corpus_records(corpora: Corpora) -> dict[str, CorpusRecord]:
    """The corpora of a stage as they are now, by source."""
    return {
        name: CorpusRecord(
            path=str(corpus.folder),
            tokenizer_sha256=corpus.meta.tokenizer_sha256,
            splits={split: corpus.split(split).fingerprint for split in SPLITS},
        )
        for name, corpus in corpora.by_source.items()
    }


def _unigram_entropy(corpora: Corpora) -> float | None:
    """Nats per token of the validation split, where the corpus tool has measured it.

    Of a mixture it is not known: its sources' words do not come in the mixture's shares.
    """
    reports = [corpus.folder / "report.json" for corpus in corpora.by_source.values()]
    if len(reports) != 1 or not reports[0].is_file():
        return None
    try:
        return value_of(as_dict(load_json(reports[0])), _ENTROPY, number)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"warning: {reports[0]}: tells no {_ENTROPY} ({first_line(error)})", flush=True)
        return None
