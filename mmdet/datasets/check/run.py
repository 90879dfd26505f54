"""Check the sets of a data folder or a config, write the reports, and a cleaned copy of the labels."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmdet.datasets.check.pages import write_contact_sheet, write_page, write_plots
from mmdet.datasets.check.problems import (
    LabelledSet,
    Problem,
    compare_with_gt,
    find_image_problems,
    find_label_problems,
    find_overlap,
    read_all,
)
from mmdet.datasets.check.statistics import measure
from mmdet.datasets.labels import LabelFile
from mmdet.datasets.labels.findings import find_oddities
from mmdet.datasets.labels.labelv2 import write_labelv2
from mmdet.datasets.labels.prepare import label_paths, prepare
from mmdet.errors import DataError, MMDetError
from mmdet.files import write_json
from mmdet.images import UnreadableImageError, read_image_size

if TYPE_CHECKING:
    from mmdet.config.types import DataConfig, RunConfig


def find_sets(root: Path) -> dict[str, LabelledSet]:
    """Return the train and val sets of a folder laid out as docs/data.md says; or the folder as one set.

    Raises:
        DataError: there is no label file.
    """
    found = {}
    for split in ("train", "val", ""):
        folder = root / split
        if (folder / "labelv2.txt").is_file():
            found[split or root.name] = LabelledSet(folder / "labelv2.txt", folder / "images")
    if not found:
        raise DataError(
            f"{root}: no train/labelv2.txt, val/labelv2.txt or labelv2.txt; or pass a config file"
        )
    return found


def sets_of(data: "DataConfig") -> dict[str, LabelledSet]:
    """Return data.train and data.val of a config; of several label files the second is called train_2, ...

    What `data.val_split` splits off is part of data.train.
    """
    found = {}
    sets = {"train": data.train, "val": {} if data.val_split else data.val or {}}
    for name, cfg in sets.items():
        options = {key: cfg[key] for key in ("label_format", "classes", "num_kps") if key in cfg}
        for number, (file, folder) in enumerate(label_paths(cfg) if cfg else (), start=1):
            found[name if number == 1 else f"{name}_{number}"] = LabelledSet(file, folder, **options)
    return found


def check_sets(
    sets: Mapping[str, LabelledSet],
    out: Path | None,
    decode: bool = False,
    fix: Path | None = None,
    cfg: "RunConfig | None" = None,
) -> dict[str, list[Problem]]:
    """Return the problems of every set, and "train and val" for both; write reports and cleaned labels.

    Args:
        sets: by name.
        out: folder for NAME/report.json, report.html, plots.png, contact_sheet.jpg; None: nowhere.
        decode: read all pixels of all images.
        fix: folder for NAME/labelv2.txt, cleaned; the originals stay.
        cfg: whose anchors and crops the set "train" is measured by; None: it is not.

    Raises:
        WriteError: a report cannot be written.
    """
    problems: dict[str, list[Problem]] = {}
    read: dict[str, tuple[LabelFile, Path]] = {}
    for name, source in sets.items():
        try:
            labels, found = read_all(source)
        except DataError as error:
            problems[name] = [Problem("unreadable labels", str(error)).add([str(source.ann_file)])]
            continue
        problems[name] = [*found, *_check_set(labels, source, decode)]
        if cfg is not None and name == "train":
            from mmdet.datasets.check.anchors import find_unlearned  # brings torch

            problems[name] += find_unlearned(labels, cfg)
        read[name] = labels, source.img_prefix
        if out is not None:
            _report(name, labels, source, problems[name], out / name)
        if fix is not None:
            write_labelv2(clean(labels, source), _folder(fix / name) / "labelv2.txt")
    if len(read) == 2:
        problems["both sets"] = find_overlap(*read.values())
    return problems


def clean(labels: LabelFile, source: LabelledSet) -> LabelFile:
    """Return labels without what cannot be right: boxes outside or under 1 px, images missing or unreadable.

    Points at 0 0 become unannotated, of a repeated name the last block stays, sizes are the images' own.
    """
    bad = [f.faces for f in find_oddities(labels) if f.kind in ("normalised", "tiny", "outside")]
    keep = np.ones(len(labels.bboxes), bool)
    keep[np.concatenate([np.zeros(0, int), *bad])] = False
    ends = np.concatenate([[0], np.cumsum(keep)])[labels.offsets]
    arrays = {name: getattr(labels, name)[keep] for name in ("bboxes", "labels", "kps", "is_ignored")}
    labels = prepare(replace(labels, offsets=ends, lines=None, **arrays), source.ann_file, train=False)
    if not source.img_prefix.is_dir():
        return labels
    sizes_hw, readable = labels.sizes_hw.copy(), []
    for row, name in enumerate(labels.names):
        try:
            size_hw = read_image_size(source.img_prefix / name)
        except UnreadableImageError:
            continue
        if size_hw != tuple(sizes_hw[row].tolist()[::-1]):  # as turned by EXIF: the labels may mean that
            sizes_hw[row] = size_hw
        readable.append(row)
    return replace(labels, sizes_hw=sizes_hw).select(np.array(readable, np.int64))


def _check_set(labels: LabelFile, source: LabelledSet, decode: bool) -> list[Problem]:
    problems = find_label_problems(labels, source.ann_file)
    if source.img_prefix.is_dir():
        problems += find_image_problems(labels, source.img_prefix, decode)
    else:
        problems.append(Problem("no images", "no such folder of images").add([str(source.img_prefix)]))
    gt_dir = source.img_prefix.absolute().parent / "gt"
    if gt_dir.is_dir():
        try:
            problems += compare_with_gt(labels, gt_dir)
        except MMDetError as error:
            problems.append(Problem("gt", str(error)).add([str(gt_dir)]))
    return problems


def _report(name: str, labels: LabelFile, source: LabelledSet, problems: list[Problem], out: Path) -> None:
    statistics = measure(labels)
    content = {"set": name, "labels": str(source.ann_file), "problems": [asdict(p) for p in problems]}
    write_json(_folder(out) / "report.json", {**content, "statistics": statistics.summary()})
    write_plots(statistics, out / "plots.png")
    if source.img_prefix.is_dir() and len(labels):
        write_contact_sheet(labels, source.img_prefix, out / "contact_sheet.jpg")
    write_page(f"{name}: {source.ann_file}", problems, statistics.summary(), out / "report.html")


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot make this folder ({error.strerror})") from None
    return path
