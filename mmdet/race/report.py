"""Table and curves of a race: means over seeds with bootstrap intervals, differences to one entry."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.evaluation.metrics import HeightMetric
from mmdet.files import atomic_write
from mmdet.race.settings import RaceSettings

RESAMPLES = 10_000
Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return mean, and 2.5th and 97.5th percentile of the means of bootstrap resamples; nan for one value."""
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return float(sample.mean()), np.nan, np.nan
    means = np.random.default_rng(seed).choice(sample, (RESAMPLES, len(sample))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(sample.mean()), float(low), float(high)


def difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return the difference of the means with its bootstrap interval, both samples drawn anew."""
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    if min(len(a), len(b)) < 2:
        return float(a.mean() - b.mean()), np.nan, np.nan
    rng = np.random.default_rng(seed)
    means = [rng.choice(sample, (RESAMPLES, len(sample))).mean(axis=1) for sample in (a, b)]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return float(a.mean() - b.mean()), float(low), float(high)


def table(settings: RaceSettings, runs: Runs) -> str:
    """Return Markdown tables for each set of test images: its figures, then AP and recall by face height.

    A cell is the mean over seeds, its 95 % interval where there are several, and the difference to the entry
    `settings.against` where the interval of that leaves 0 out. Intervals are about seeds, not about images.
    """
    lines = []
    for test in settings.tests:
        lines += [f"**{test}**", ""]
        lines += [
            line for figures in _groups(settings, runs, test) for line in _rows(settings, runs, test, figures)
        ]
    return "\n".join(lines)


def _groups(settings: RaceSettings, runs: Runs, test: str) -> list[Sequence[str]]:
    """Return the columns of each table of a test: the race's; AP and recall by face height."""
    known = next(iter(runs.values()))[0]["figures"][test]
    heights = [name for name in HeightMetric.names if known.get(name) is not None]
    groups = [[name for name in heights if name.startswith(kind)] for kind in ("AP", "recall")]
    return [settings.figures, *filter(None, groups)]


def _rows(settings: RaceSettings, runs: Runs, test: str, figures: Sequence[str]) -> list[str]:
    against = settings.against or settings.parsed[0].name
    lines = [f"| entry | seeds | processor s | images | {' | '.join(figures)} |"]
    lines.append("|---|--:|--:|--:|" + "--:|" * len(figures))
    for name, of_entry in runs.items():
        costs = [run["cpu_s"] for run in of_entry]
        cells = [_cell(runs, name, against, test, figure) for figure in figures]
        cost, images = _cost(costs, settings.budget_cpu_s), of_entry[0]["images"] or "?"
        lines.append(f"| {name} | {len(of_entry)} | {cost} | {images} | {' | '.join(cells)} |")
    return [*lines, ""]


def values_of(of_entry: Sequence[Mapping[str, Any]], test: str, figure: str) -> list[float]:
    """Return one figure of each run; what is missing or null counts as 0."""
    return [float(run["figures"][test].get(figure) or 0.0) for run in of_entry]


def plot(settings: RaceSettings, runs: Runs, test: str, path: Path) -> None:
    """Draw each figure over the processor seconds: the mean over seeds, lowest to highest seed as a band."""
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    drawing = Figure(figsize=(4.2 * len(settings.figures), 3.6), layout="constrained")
    for axes, figure in zip(
        np.atleast_1d(drawing.subplots(1, len(settings.figures))), settings.figures, strict=True
    ):
        for name, of_entry in runs.items():
            curve = curve_of(of_entry, test, figure)
            (line,) = axes.plot(curve[:, 0], curve[:, 1], marker="o", label=name)
            axes.fill_between(curve[:, 0], curve[:, 2], curve[:, 3], alpha=0.2, color=line.get_color())
        axes.set(xlabel="processor seconds", title=f"{figure}, {test}")
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_write(path) as part:
        drawing.savefig(part, dpi=100)


def curve_of(of_entry: Sequence[Mapping[str, Any]], test: str, figure: str) -> np.ndarray:
    """Return rows of mean processor seconds, and mean, lowest and highest figure over the seeds."""
    cpu_s = float(np.mean([run["cpu_s"] for run in of_entry]))
    shares = [point["share"] for point in of_entry[0]["curve"]]
    rows = []
    for index, share in enumerate(shares):
        values = values_of([run["curve"][index] for run in of_entry], test, figure)
        rows.append((share * cpu_s, np.mean(values), min(values), max(values)))
    last = values_of(of_entry, test, figure)
    return np.array([*rows, (cpu_s, np.mean(last), min(last), max(last))])


def _cell(runs: Runs, name: str, against: str, test: str, figure: str) -> str:
    mean, low, high = interval(values_of(runs[name], test, figure))
    text = f"{mean:.4f}" if np.isnan(low) else f"{mean:.4f} [{low:.4f}, {high:.4f}]"
    if name == against or against not in runs:
        return text
    change, low, high = difference(
        values_of(runs[name], test, figure), values_of(runs[against], test, figure)
    )
    is_clear = low > 0 or high < 0
    return f"{text} ({change:+.4f})" if is_clear else text


def _cost(costs: Sequence[float], budget_s: float) -> str:
    """Return the mean processor seconds; with a mark if it is more than 5 % off the budget."""
    mean = float(np.mean(costs))
    is_off = budget_s > 0 and abs(mean / budget_s - 1) > 0.05
    return f"{mean:.0f}{' (!)' if is_off else ''}"
