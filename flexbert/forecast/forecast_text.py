"""A law and its forecasts as text for people."""

from __future__ import annotations

from collections.abc import Iterator

from flexbert.forecast.forecast_file import LadderFit
from flexbert.forecast.rungs import LadderRung
from flexbert.forecast.target import Forecast
from flexbert.pictures import as_count
from flexbert.text_tables import TextTable, plain_table


def ladder_text(found: LadderFit) -> str:
    """The rungs, the law through them, and how far they are from it."""
    fitted, ladder = found.fitted, found.ladder
    constants = ", ".join(f"{name} = {value:.4g}" for name, value in fitted.constants.items())
    table = TextTable(
        header=(("rung", "parameters", "tokens", "FLOPs", "loss", "law", "off"),),
        groups=(tuple(_row(rung, fitted.loss_at(rung.scale)) for rung in ladder.rungs),),
        wraps_labels=True,
    )
    lines = [
        plain_table(table),
        "",
        f"law         {fitted.law.formula}, {constants}",
        f"            {fitted.law.name}, for {found.why}",
        f"noise       {_noise(found)}",
    ]
    if fitted.undetermined:
        lines.append(
            f"remark      the rungs do not determine {', '.join(fitted.undetermined)}: it ended at "
            "a bound of the search; rungs that differ more would"
        )
    if ladder.left_out:
        lines.append(f"left out    not finished, or no loss: {', '.join(ladder.left_out)}")
    return "\n".join(lines)


def _row(rung: LadderRung, law: float) -> tuple[str, ...]:
    return (
        rung.name,
        as_count(rung.scale.parameters),
        as_count(rung.scale.tokens),
        f"{rung.scale.flops:.3g}",
        f"{rung.loss:.4f}",
        f"{law:.4f}",
        f"{rung.loss / law - 1:+.2%}",
    )


def forecast_text(found: Forecast) -> str:
    """A forecast, what came of it, and what it cannot know."""
    lines = [
        f"forecast    {found.name}: loss {found.loss:.4f}, 95 of 100 times between "
        f"{found.low:.4f} and {found.high:.4f}, if the ladder's law holds so far",
        f"            at {found.compute:.3g} times the FLOPs of the ladder's largest rung, "
        f"{found.parameters:.3g} times its parameters, {found.tokens:.3g} times its tokens",
    ]
    if found.measured is not None:
        verdict = "inside" if found.holds else "outside"
        lines.append(
            f"measured    {found.measured:.4f}, {verdict} the interval; the forecast is off by "
            f"{found.loss / found.measured - 1:+.2%}"
        )
    lines += _warnings(found)
    return "\n".join(lines)


def _warnings(found: Forecast) -> Iterator[str]:
    if found.compute < 1:
        yield "            within the ladder"
    for key, (ladders, own) in found.differences.items():
        theirs = "nothing" if ladders is None else ladders
        yield (
            f"not known   what {key} does: {theirs} in the ladder, "
            f"{'nothing' if own is None else own} here"
        )
    for remark in found.remarks:
        yield f"not known   {remark}" if remark.startswith("whether") else f"remark      {remark}"


def _noise(found: LadderFit) -> str:
    noise = found.fitted.noise
    text = (
        f"a run ends {noise.deviation:.2%} from the law (standard deviation, {noise.freedom} "
        "degrees of freedom)"
    )
    if noise.between_seeds is not None:
        text += f"; seeds alone make {noise.between_seeds:.2%}"
    return text
