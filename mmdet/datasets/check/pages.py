"""What a person looks at: plots, a contact sheet, one HTML page."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmdet.datasets.check.problems import Problem
from mmdet.datasets.check.statistics import Statistics
from mmdet.datasets.labels import LabelFile, Record
from mmdet.files import atomic_write, write_bytes, write_text
from mmdet.images import UnreadableImageError, read_image
from mmdet.visualize import draw

NUM_ON_SHEET = 24
_TILE_PX, _COLUMNS = 240, 6


def write_plots(statistics: Statistics, path: Path) -> None:
    """Draw face sizes, faces per image, aspect and places to a PNG file.

    Raises:
        WriteError: it cannot be written.
    """
    figure = Figure(figsize=(11, 7), dpi=100, layout="constrained")
    sizes, counts, aspect, places = figure.subplots(2, 2).ravel()
    if len(statistics.network_px):
        bins = np.geomspace(1, 640, 40)
        sizes.hist(statistics.network_px.clip(1, 640), bins)
    sizes.set(xscale="log", title="face side when the image fits 640 x 640", xlabel="px", ylabel="faces")
    counts.hist(statistics.faces_per_image, 40)
    counts.set(yscale="log", title="faces per image", ylabel="images")
    aspect.hist(statistics.aspect.clip(0, 3), 40)
    aspect.set(title="width / height", ylabel="faces")
    if len(statistics.center_xy):
        places.hist2d(*statistics.center_xy.clip(0, 1).T, bins=32, range=((0, 1), (0, 1)))
    places.set(title="where faces lie", ylim=(1, 0))
    with atomic_write(path) as part:
        figure.savefig(part)


def write_contact_sheet(labels: LabelFile, folder: Path, path: Path) -> None:
    """Draw 24 images, spread over the set, with boxes (green), ignore boxes (gray) and points (red).

    Raises:
        WriteError: it cannot be written.
    """
    images = [_draw(labels[row], folder) for row in draw.spread(len(labels), NUM_ON_SHEET)]
    write_bytes(path, draw.encode(path.name, draw.make_sheet(images, _TILE_PX, _COLUMNS)))


def write_page(title: str, problems: Sequence[Problem], summary: Mapping[str, object], path: Path) -> None:
    """Write report.html, which shows plots.png and contact_sheet.jpg beside it.

    Raises:
        WriteError: it cannot be written.
    """
    rows = [
        f"<tr><td>{'error' if p.is_error else 'odd'}</td><td>{p.count}</td><td>{escape(p.what)}</td>"
        f"<td>{'<br>'.join(map(escape, p.examples))}</td></tr>"
        for p in problems
    ]
    facts = [f"<tr><td>{escape(str(k))}</td><td>{escape(str(v))}</td></tr>" for k, v in summary.items()]
    images = [name for name in ("plots.png", "contact_sheet.jpg") if (path.parent / name).is_file()]
    text = (
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title>"
        "<style>body{font:14px sans-serif}td{border:1px solid #ccc;padding:2px 6px}</style>"
        f"<h1>{escape(title)}</h1><table>{''.join(rows) or '<tr><td>nothing found</td></tr>'}</table>"
        f"<h2>Statistics</h2><table>{''.join(facts)}</table>"
        + "".join(f'<p><img src="{name}" style="max-width:100%"></p>' for name in images)
    )
    write_text(path, text + "\n")


def _draw(record: Record, folder: Path) -> np.ndarray:
    try:
        image = read_image(folder / record.name, record.size_hw)
    except UnreadableImageError:
        blank = np.full((_TILE_PX, _TILE_PX, 3), 255, np.uint8)
        draw.draw_text(blank, "missing", 80, 120, draw.RED)
        return blank
    small, scale = draw.fit(image, _TILE_PX - 4)
    kps = record.kps * np.array([scale, scale, 1], np.float32)
    draw.draw_faces(small, record.bboxes * scale, kps, record.bboxes_ignore * scale)
    return small
