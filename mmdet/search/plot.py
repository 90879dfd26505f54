"""Plots of the searches; matplotlib is loaded only here and only when something is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.files import atomic_write

SIZE = (5, 3.2)  # inches; at 100 dpi a file of some 20 kB


def plot_evolution(history: Sequence[tuple[int, float, float, int]], path: Path, score: str) -> None:
    """Draw best and worst score of the population over the rounds."""
    figure, axes = _new(xlabel="round", ylabel=score)
    if history:
        rounds, best, worst, _ = zip(*history, strict=True)
        axes.fill_between(rounds, worst, best, alpha=0.3, label="population")
        axes.plot(rounds, best, label="best")
        axes.legend()
    _save(figure, path)


def _new(**labels: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: no window system, nothing global

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(**labels)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    with atomic_write(path) as part:
        figure.savefig(part, dpi=100)


def plot_stages(candidates: Sequence[Any], key: str, path: Path) -> None:
    """Draw where candidates spend their FLOPs, one line each, coloured by AP (SCRFD's figure 3).

    Args:
        candidates: of rank.read_candidates.
        key: the AP.
        path: image file.
    """
    import matplotlib

    figure, axes = _new(ylabel="share of the FLOPs")
    names = [name for name in ("stem", "layer1", "layer2", "layer3", "layer4") if name in candidates[0].flops]
    names = [*(names or ["backbone"]), "neck", "bbox_head"]
    aps = [one.mean(key) for one in candidates]
    scale = matplotlib.colors.Normalize(min(aps), max(aps))
    colours = matplotlib.colormaps["viridis"]
    for one, ap in zip(candidates, aps, strict=True):
        shares = [one.flops[name] / 1e9 / one.gflops for name in names]
        axes.plot([*names[:-1], "head"], shares, marker="o", color=colours(scale(ap)))
    figure.colorbar(matplotlib.cm.ScalarMappable(scale, colours), ax=axes, label=key)
    _save(figure, path)


def plot_errors(groups: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the share of candidates whose error, 1 - AP, is below a value, per group."""
    figure, axes = _new(xlabel="error e (1 - AP)", ylabel="share of candidates below e")
    for name, aps in groups.items():
        errors = sorted(1 - ap for ap in aps)
        axes.step([*errors, errors[-1]], [*(i / len(errors) for i in range(len(errors))), 1], label=name)
    axes.legend()
    _save(figure, path)
