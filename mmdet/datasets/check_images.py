"""Are the images of a data set there, and as large as their labels say? Asked before the first iteration."""

import logging
from pathlib import Path

import numpy as np

from mmdet.datasets.labels import LabelFile
from mmdet.errors import DataError
from mmdet.images import UnreadableImageError, read_image_size

NUM_PROBED = 20  # in training: a missing image is replaced there, but not all
NUM_HEADERS = 1000  # 0.2 ms each

logger = logging.getLogger(__name__)


def check_images(labels: LabelFile, ann_file: Path, img_prefix: Path, test_mode: bool) -> None:
    """Look for the images, all of them in test mode, and read the headers of up to 1,000 of them.

    Args:
        labels: read from `ann_file`.
        ann_file: for messages.
        img_prefix: folder of the images.
        test_mode: every image must be there and readable.

    Raises:
        DataError: in training none of the first images is there; in test mode one is missing or unreadable;
            or most images are of another size than the labels say.
    """
    names = labels.names if test_mode else labels.names[:NUM_PROBED]
    missing = [img_prefix / name for name in names if not (img_prefix / name).is_file()]
    if missing and len(missing) == len(names):
        raise DataError(
            f"none of the first {len(names)} images of {ann_file} is in img_prefix {img_prefix}; "
            f"expected for example {missing[0]}"
        )
    if missing and test_mode:
        raise DataError(
            f"{len(missing)} of {len(names)} images of {ann_file} are missing, the first: {missing[0]}"
        )
    _check_sizes(labels, ann_file, img_prefix, test_mode)


def _check_sizes(labels: LabelFile, ann_file: Path, img_prefix: Path, test_mode: bool) -> None:
    probed = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), NUM_HEADERS)).astype(int))
    probed = probed[labels.sizes_hw[probed].min(1, initial=1) > 0]
    wrong = []
    for index in probed.tolist():
        try:
            size_hw = read_image_size(img_prefix / labels.names[index])
        except UnreadableImageError as error:
            if test_mode:
                raise DataError(f"{error}; {ann_file} lists it") from None
            continue  # the loader replaces it
        label_hw = tuple(labels.sizes_hw[index].tolist())
        if label_hw not in (size_hw, size_hw[::-1]):  # turned by EXIF or not, see read_image
            wrong.append((index, size_hw, label_hw))
    if not wrong:
        return
    index, (height, width), (label_height, label_width) = wrong[0]
    text = (
        f"wrong size: {len(wrong)} of {len(probed)} probed images of {ann_file}, the first: "
        f"{labels.names[index]} has {width}x{height} px, the label file says {label_width}x{label_height}"
    )
    if 2 * len(wrong) > len(probed):
        raise DataError(f"{text}. The labels were made for images of another size")
    logger.warning("%s; the boxes may not fit", text)
