"""What a data set uses of labels that were read, whatever their format."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.datasets.labels.base import LabelFile
from mmdet.datasets.labels.findings import find_oddities, is_all_zero, place_of
from mmdet.errors import ConfigError, DataError

MIN_IMAGE_SIDE = 32  # training drops images narrower than this, as mmdet does

logger = logging.getLogger(__name__)


def prepare(
    labels: LabelFile,
    path: str | Path,
    *,
    train: bool,
    min_size: float | None = None,
    filter_empty_gt: bool = True,
) -> LabelFile:
    """Return what a data set uses of a file that was read; the log says what is odd and what was left out.

    The same name twice: the later block replaces the earlier one. Points that are all 0 0 get weight 0.

    Args:
        labels: as a reader returned them.
        path: the file, for messages.
        train: drop images without a face and images narrower than 32 px (where the size is known).
        min_size: faces narrower or lower than this become ignore boxes.
        filter_empty_gt: False keeps images without faces in training, too.

    Raises:
        DataError: no image is left to train on, or most boxes make no sense.
    """
    _tell_oddities(labels, path)
    is_zero = is_all_zero(labels.kps)
    if is_zero.any():
        kps = labels.kps.copy()
        kps[is_zero, :, 2] = 0
        labels = replace(labels, kps=kps)
    if min_size is not None:
        is_small = (labels.bboxes[:, 2:] - labels.bboxes[:, :2] < min_size).any(1)
        labels = replace(labels, is_ignored=labels.is_ignored | is_small)
    labels = _latest_of_each_name(labels, path)
    return _drop_unusable(labels, path, filter_empty_gt) if train else labels


def label_paths(cfg: Mapping[str, Any]) -> list[tuple[Path, Path]]:
    """Return each label file of a data set's config with the folder of its images.

    Raises:
        ConfigError: there is none, or not one folder for all and not as many folders as files.
    """
    files, folders = (
        [Path(path) for path in ([value] if isinstance(value, str | Path) else value)]
        for value in (cfg["ann_file"], cfg["img_prefix"])
    )
    folders = folders * len(files) if len(folders) == 1 else folders
    if not files or len(folders) != len(files):
        raise ConfigError(f"{len(files)} ann_file, but {len(folders)} img_prefix")
    return list(zip(files, folders, strict=True))


def split(labels: LabelFile, share: float, is_val: bool) -> LabelFile:
    """Return the images held back for validation, or the others.

    The name alone decides: an image stays where it is when others come or go.

    Args:
        labels: all images.
        share: of the images, about, that is for validation.
        is_val: return these.

    Raises:
        DataError: no image is left.
    """
    digests = (hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in labels.names)
    numbers = [int.from_bytes(digest[:8], "big") / 2**64 for digest in digests]
    images = np.flatnonzero((np.array(numbers) < share) == is_val)
    if not len(images):
        part = "validation" if is_val else "training"
        raise DataError(f"val_split = {share:g} of {len(labels)} images leaves none for {part}")
    return labels.select(images)


def _tell_oddities(labels: LabelFile, path: str | Path) -> None:
    for finding in find_oddities(labels):
        text = f"{finding.what}; first: {place_of(labels, int(finding.faces[0]), path)}"
        if finding.is_fatal:
            raise DataError(f"{text}. tools/check_dataset.py shows all that is wrong")
        logger.warning("%s", text)


def _latest_of_each_name(labels: LabelFile, path: str | Path) -> LabelFile:
    """Keep, at the place of its first block, the last block of each name (as a dict does)."""
    latest = {name: index for index, name in enumerate(labels.names)}
    num_repeated = len(labels) - len(latest)
    if not num_repeated:
        return labels
    logger.warning("%s: %d images are listed more than once; the last block counts", path, num_repeated)
    return labels.select(np.fromiter(latest.values(), np.int64))


def _drop_unusable(labels: LabelFile, path: str | Path, filter_empty_gt: bool) -> LabelFile:
    shorter_side = labels.sizes_hw.min(1)
    is_wide_enough = (shorter_side >= MIN_IMAGE_SIDE) | (shorter_side == 0)
    if not is_wide_enough.all():
        narrow = np.flatnonzero(~is_wide_enough)
        logger.warning(
            "%s: %d images narrower than %d px are not trained on (%s%s)",
            path,
            len(narrow),
            MIN_IMAGE_SIDE,
            ", ".join(labels.names[i] for i in narrow[:3]),
            ", ..." if len(narrow) > 3 else "",
        )
    keep = is_wide_enough
    if filter_empty_gt:
        keep = keep & (np.diff(labels.offsets) > 0)
        num_empty = int((is_wide_enough & ~keep).sum())
        if num_empty:
            logger.info("%s: %d images without faces are not trained on", path, num_empty)
    if not keep.any():
        raise DataError(f"{path}: none of {len(labels)} images has a face and {MIN_IMAGE_SIDE} px or more")
    return labels if keep.all() else labels.select(np.flatnonzero(keep))
