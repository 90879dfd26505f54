"""results.csv and results.png: how losses, figures and the learning rate went, a row per epoch."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdet.errors import DataError
from mmdet.files import atomic_write, write_text

Row = dict[str, float]
FACTS = ("epoch", "iter", "time_s", "lr")  # first columns; then losses, then figures
_MOST_CURVES = 8


def read_results(path: Path) -> list[Row]:
    """Return the rows of a results.csv; empty cells are left out.

    Raises:
        DataError: it is no such file.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [{key: float(text) for key, text in row.items() if text} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(f"{path}: not a table that training wrote ({error})") from None
    if any("iter" not in row for row in rows):
        raise DataError(f"{path}: not a table that training wrote (a row has no iter)")
    return rows


def write_results(rows: Sequence[Row], path: Path) -> None:
    """Write the table.

    Raises:
        WriteError: it cannot be written.
    """
    columns = columns_of(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue(), durable=False)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the facts, the losses, then everything else."""
    names = dict.fromkeys(name for row in rows for name in row if name not in FACTS)
    losses = [name for name in names if name.startswith("loss")]
    return [*FACTS, *losses, *(name for name in names if name not in losses)]


def draw_results(rows: Sequence[Row], figures: Sequence[str], path: Path) -> None:
    """Draw losses, figures and learning rate against the epoch to a PNG file.

    Args:
        rows: of the table; a figure's curve has the rows that hold it.
        figures: columns of the second plot, the first eight of those there are.
        path: the file.

    Raises:
        WriteError: it cannot be written.
    """
    from matplotlib.figure import Figure  # takes most of a second, once

    names = columns_of(rows)
    losses = [name for name in names if name.startswith("loss")]
    shown = [name for name in figures if name in names][:_MOST_CURVES]
    figure = Figure(figsize=(13, 4), dpi=90, layout="constrained")
    plots = (("losses", losses), ("validation", shown), ("learning rate", ["lr"]))
    for axes, (title, columns) in zip(figure.subplots(1, 3), plots, strict=True):
        for name in columns:
            axes.plot(*_curve(rows, name), marker="." if len(rows) < 60 else "", label=name)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.4)
        if len(columns) > 1:
            axes.legend(fontsize="small")
    with atomic_write(path, durable=False) as part:
        figure.savefig(part)


def _curve(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    points = [(row["epoch"], row[name]) for row in rows if name in row]
    return [x for x, _ in points], [y for _, y in points]
