"""Composer's profiler, as a recipe asks for it."""

from __future__ import annotations

from pathlib import Path

from composer.profiler import JSONTraceHandler, Profiler, cyclic_schedule

from flexbert.config.profiler import ProfilerConfig


def profiler(config: ProfilerConfig, folder: Path) -> Profiler:
    """One that writes traces to ``folder``: torch's, and Composer's of its events.

    Traces of a stage that is run again replace those from before.
    """
    return Profiler(
        schedule=cyclic_schedule(
            skip_first=config.skip,
            wait=config.wait,
            warmup=config.warmup,
            active=config.record,
            repeat=config.cycles,
        ),
        trace_handlers=[
            JSONTraceHandler(
                folder=str(folder / "composer"),
                remote_file_name=None,
                merged_trace_remote_file_name=None,
                overwrite=True,
            )
        ],
        sys_prof_cpu=False,
        torch_prof_folder=str(folder / "torch"),
        torch_prof_remote_file_name=None,
        torch_prof_memory_remote_file_name=None,
        torch_prof_overwrite=True,
        torch_prof_record_shapes=config.shapes,
        torch_prof_profile_memory=config.memory,
        torch_prof_with_stack=config.stacks,
        # Composer leaves torch's profiler out where all four are off.
        torch_prof_with_flops=True,
    )
