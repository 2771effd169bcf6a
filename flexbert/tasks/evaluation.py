"""``flexbert evaluate`` as a function: a suite, models, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flexbert.config.plugins import import_plugins
from flexbert.devices.gpus import GPUS
from flexbert.devices.peak_flops import measured_peak_flops
from flexbert.errors import UserError, did_you_mean, user_errors_at
from flexbert.huggingface.export import export_checkpoint
from flexbert.plan.stage_cost import Hardware, cpu_hardware
from flexbert.pretrained.architecture_head import check_export
from flexbert.pretrained.load_model import ReadModel
from flexbert.tasks.compare_models import compare_fits
from flexbert.tasks.comparison import CompareRequest
from flexbert.tasks.comparison_text import comparison_text
from flexbert.tasks.designs import DESIGNS
from flexbert.tasks.fine_tuning import head_of
from flexbert.tasks.fits import FitMaker, model_head
from flexbert.tasks.floor_fits import make_floors
from flexbert.tasks.kept_fits import read_fits
from flexbert.tasks.models import find_models
from flexbert.tasks.results import FitRecord
from flexbert.tasks.search import (
    Search,
    SearchProgress,
    best_whole_fit,
    finished_fits,
    make_search,
    run_search,
)
from flexbert.tasks.search_plan import SearchPlan, plan_search
from flexbert.tasks.suite import TaskConfig, load_suite
from flexbert.tasks.task_data import check_model

# What fits of small batches of short texts reach of a GPU's peak; a guess, which a plan says.
_GPU_MFU = 0.2


@dataclass(frozen=True, kw_only=True)
class SuiteRequest:
    """What is asked for.

    Attributes:
        suite: its file.
        models: each a path or a name, also with ``LABEL=`` before it.
        overrides: ``key=value`` of the suite.
        tasks: None is all.
        frozen: a linear probe in place of fine-tuning.
        untrained: also each model's like with weights drawn anew.
        design: a name of :data:`~flexbert.tasks.designs.DESIGNS`.
        folder: of the results; None is ``results/SUITE``.
        export: where the best fits go as Hugging Face folders.
    """

    suite: Path
    models: Sequence[str]
    overrides: Sequence[str] = ()
    tasks: Sequence[str] | None = None
    frozen: bool = False
    untrained: bool = False
    design: str = "full"
    folder: Path | None = None
    export: Path | None = None
    plugins: Sequence[str] = ()


def prepare(request: SuiteRequest) -> Search:
    """The search that is asked for, everything checked that can be before a fit.

    Raises:
        UserError: if the suite, a model or a row is wrong.
    """
    if request.design not in DESIGNS:
        raise UserError(f"--design {request.design}: {did_you_mean(request.design, DESIGNS)}")
    if request.frozen and request.export is not None:
        raise UserError("--export writes fine-tuned models; leave --frozen out")
    import_plugins(request.plugins)
    suite = load_suite(request.suite, request.overrides, request.tasks)
    search = make_search(
        suite,
        find_models(request.models, untrained=request.untrained),
        "frozen" if request.frozen else "fine_tune",
        DESIGNS[request.design],
        request.folder or Path("results") / suite.name,
        keeps_all=request.export is not None,
    )
    check_models([search])
    for model in search.models if request.export is not None else ():
        read = model.read()
        for name, task in suite.tasks.items():
            for point in task.points:
                with user_errors_at(f"--export: {model.label}"):
                    _check_export(read, point.settings, search.examples[name].names)
    return search


def check_models(searches: Sequence[Search]) -> None:
    """See that the models of searches, which have the same ones, can be given their tasks.

    Raises:
        UserError: naming the model that cannot.
    """
    for model in searches[0].models:
        read = model.read()
        for search in searches:
            for name, task in search.suite.tasks.items():
                for length in {point.settings.max_length for point in task.points}:
                    examples = search.examples[name]
                    check_model(examples, read.config, read.tokenizer, length, model.label)


def _check_export(read: ReadModel, settings: TaskConfig, names: tuple[str, ...]) -> None:
    fields = model_head(read, settings, names)
    check_export(read.config, read.tokenizer, head_of(settings, names, fields))


def plan(search: Search, design: str, device: torch.device) -> SearchPlan:
    """What a search will do and cost, by the name of its design."""
    precision = next(iter(search.suite.tasks.values())).settings.precision
    if device.type == "cuda":
        name = next((name for name in GPUS if name in torch.cuda.get_device_name(device)), "GPU")
        peak = measured_peak_flops(device, torch.bfloat16)
        hardware = Hardware(device=name, mfu=_GPU_MFU, peak_tflops=peak / 1e12)
    else:
        hardware = cpu_hardware(precision)
    done = search.progress(finished_fits(search.folder))
    return plan_search(
        search.suite,
        search.models,
        design,
        search.examples,
        hardware,
        done.finished,
        search.mode,
    )


def evaluate_suite(
    search: Search, device: torch.device, tell: Callable[[FitRecord, SearchProgress], None]
) -> list[FitRecord]:
    """Make what is left of a search's fits, and return all of them.

    Raises:
        UserError: if a model does not go with a task, or the disk refuses a file.
    """
    run_search(search, FitMaker(search.folder, device), tell)
    done = finished_fits(search.folder)
    return [done[fit.id] for fit in search.fits(done)]


def table_text(search: Search) -> str:
    """The search's table, with its floors, which are made where they are not there yet."""
    make_floors(search)
    own = {fit.id for fit in search.fits(finished_fits(search.folder))}
    fits = [
        fit
        for fit in read_fits([search.folder])
        if fit.record.fit in own
        or (fit.record.mode == "floor" and fit.record.task in search.suite.tasks)
    ]
    return comparison_text(compare_fits(fits, CompareRequest()))


def export_best(search: Search, folder: Path, device: torch.device) -> list[str]:
    """Write each model's best fit of each task as a Hugging Face folder; returns what to say.

    With several models or tasks each has a folder of its own below.

    Raises:
        UserError: if a folder is there already.
    """
    done = finished_fits(search.folder)
    maker = FitMaker(search.folder, device)
    lines = []
    for model in search.models:
        for name, task in search.suite.tasks.items():
            best = best_whole_fit(search.fits_of(model, task, done), done)
            target = folder
            if len(search.models) > 1:
                target = target / re.sub(r"[^\w.-]+", "-", model.label)
            if len(search.suite.tasks) > 1:
                target = target / name
            lines += export_checkpoint(maker.weights_of(best), target)
    return lines
