"""Are the images of a data set there, and as large as their labels say? Asked before the first iteration."""

import logging
from typing import TYPE_CHECKING

import numpy as np

from mmdet.errors import DataError
from mmdet.images import UnreadableImageError, read_image_size

if TYPE_CHECKING:
    from mmdet.datasets.faces import FacesDataset

NUM_PROBED = 20  # in training: a missing image is replaced there, but not all
NUM_HEADERS = 1000  # 0.2 ms each

logger = logging.getLogger(__name__)


def check_images(dataset: "FacesDataset") -> None:
    """Look for the images, all of them in test mode, and read the headers of up to 1,000 of them.

    Raises:
        DataError: in training none of the first images is there; in test mode one is missing or unreadable;
            or most images are of another size than the labels say.
    """
    present = range(len(dataset)) if dataset.test_mode else range(min(len(dataset), NUM_PROBED))
    missing = [index for index in present if not dataset.path(index).is_file()]
    if missing and len(missing) == len(present):
        raise DataError(
            f"none of the first {len(present)} images of {dataset.ann_file} is in img_prefix "
            f"{dataset.img_prefix}; expected for example {dataset.path(0)}"
        )
    if missing and dataset.test_mode:
        raise DataError(
            f"{len(missing)} of {len(present)} images of {dataset.ann_file} are missing, the first: "
            f"{dataset.path(missing[0])}"
        )
    _check_sizes(dataset)


def _check_sizes(dataset: "FacesDataset") -> None:
    probed = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), NUM_HEADERS)).astype(int))
    probed = probed[dataset.labels.sizes_hw[probed].min(1, initial=1) > 0]
    wrong = []
    for index in probed.tolist():
        try:
            size_hw = read_image_size(dataset.path(index))
        except UnreadableImageError as error:
            if dataset.test_mode:
                raise DataError(f"{error}; {dataset.ann_file} lists it") from None
            continue  # the loader replaces it
        label_hw = tuple(dataset.labels.sizes_hw[index].tolist())
        if label_hw not in (size_hw, size_hw[::-1]):  # turned by EXIF or not, see read_image
            wrong.append((index, size_hw, label_hw))
    if not wrong:
        return
    index, (height, width), (label_height, label_width) = wrong[0]
    text = (
        f"wrong size: {len(wrong)} of {len(probed)} probed images of {dataset.ann_file}, the first: "
        f"{dataset.name(index)} has {width}x{height} px, the label file says {label_width}x{label_height}"
    )
    if 2 * len(wrong) > len(probed):
        raise DataError(f"{text}. The labels were made for images of another size")
    logger.warning("%s; the boxes may not fit", text)
