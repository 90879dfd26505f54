"""FacesDataset: a label file and a folder of images, one `Sample` at a time."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from mmdet.core.structures import Note, Sample
from mmdet.datasets.cache import DecodedCache
from mmdet.datasets.check_images import check_images
from mmdet.datasets.labels import Record, read_labels
from mmdet.datasets.labels.base import DEFAULT_NUM_KPS, concatenate
from mmdet.datasets.labels.prepare import label_paths, split
from mmdet.datasets.transforms.base import Transform
from mmdet.errors import ConfigError, DataError
from mmdet.images import UnreadableImageError, read_image, read_image_size

MAX_UNREADABLE_FRACTION = 0.01


class FacesDataset:
    """Images and faces of a label file; configs also call it RetinaFaceDataset.

    `dataset[(epoch, index)]` is a function of (seed, epoch, index) alone: the same on every worker and
    rank. `dataset[index]` is epoch 0.

    Args:
        ann_file: the label file (a folder for yolo, voc, labelme), or several of one format.
        img_prefix: folder the names in the file are relative to; as many, or one for all.
        pipeline: the built transforms (`build_dataset` builds them from the config).
        test_mode: keep all images; a file that cannot be read is an error instead of being replaced.
        min_size: training only; smaller faces become ignore boxes.
        classes: class names, in the order of the model's outputs.
        filter_empty_gt: False trains on images without faces, too.
        seed: of the augmentation.
        cache_dir: folder in which decoded images are kept (`mmdet.datasets.cache`); None: decode each time.
        cache_gib: how much of it to use.
        label_format: of `ann_file`, a name of `mmdet.datasets.labels.LABEL_READERS`.
        num_kps: points per face.
        val_split: share of the images, by a hash of their names, that is for validation: training leaves them
            out, test mode has no others.
        closing_pipeline: the transforms of the last epochs, where `total_epochs` is known; None: the same.
        closing_share: of the epochs, rounded, at least one.

    Attributes:
        total_epochs: of the run; None outside of one.

    Raises:
        DataError: a file or folder is missing, or the label file is wrong.
    """

    def __init__(  # noqa: PLR0913  the keys of its config dict
        self,
        ann_file: str | Path | Sequence[str | Path],
        img_prefix: str | Path | Sequence[str | Path],
        pipeline: Transform,
        test_mode: bool = False,
        min_size: float | None = None,
        classes: Sequence[str] | None = None,
        filter_empty_gt: bool = True,
        seed: int = 0,
        cache_dir: str | Path | None = None,
        cache_gib: float = 0,
        label_format: str = "labelv2",
        num_kps: int = DEFAULT_NUM_KPS,
        val_split: float | None = None,
        closing_pipeline: Transform | None = None,
        closing_share: float = 0.1,
    ) -> None:
        if test_mode and min_size is not None:
            raise ConfigError("FacesDataset.min_size is for training; remove it from the test data set")
        pairs = label_paths({"ann_file": ann_file, "img_prefix": img_prefix})
        ann_files, prefixes = [file for file, _ in pairs], [folder for _, folder in pairs]
        for file in ann_files:
            if not file.exists():
                raise DataError(f"ann_file {file} does not exist; expected a {label_format} file")
        for folder in prefixes:
            if not folder.is_dir():
                raise DataError(f"img_prefix {folder} does not exist; expected the folder of the images")
        self.ann_file, self.img_prefix = ann_files[0], prefixes[0]
        if not 0 < closing_share <= 1:
            raise ConfigError(f"closing_share = {closing_share}: expected a share above 0, at most 1")
        self.pipeline, self.test_mode, self.seed = pipeline, test_mode, seed
        self.closing_pipeline, self.closing_share = closing_pipeline, closing_share
        self.total_epochs: int | None = None
        for each in (pipeline, closing_pipeline):
            if each is not None:
                each.bind(self)
        parts = [
            read_labels(
                file,
                label_format,
                train=not test_mode,
                classes=(classes,) if isinstance(classes, str) else classes,
                num_kps=num_kps,
                min_size=min_size,
                filter_empty_gt=filter_empty_gt,
            )
            for file in ann_files
        ]
        if val_split is not None:
            parts = [split(part, val_split, test_mode) for part in parts]
        self.labels = concatenate(parts)
        if test_mode and len(set(self.labels.names)) < len(self.labels):
            raise DataError(f"the files {', '.join(map(str, ann_files))} share image names; rename folders")
        self._prefixes = [folder for folder, part in zip(prefixes, parts, strict=True) for _ in part.names]
        check_images(self.labels, self.ann_file, self.img_prefix, test_mode)
        self._cache = None if cache_dir is None else DecodedCache(cache_dir, cache_gib, self.sizes_hw)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def CLASSES(self) -> tuple[str, ...]:  # noqa: N802
        """Class names, under mmdet's name."""
        return self.labels.classes

    @cached_property
    def sizes_hw(self) -> np.ndarray:
        """(N, 2) int32: heights and widths as the label file says, else from the headers of the images.

        0 0 where the file does not say and the image cannot be read.
        """
        sizes_hw = self.labels.sizes_hw.copy()
        for index in np.flatnonzero(sizes_hw.min(1) == 0).tolist():
            try:
                sizes_hw[index] = read_image_size(self.path(index))
            except UnreadableImageError:
                continue  # reading the image will tell
        return sizes_hw

    @property
    def group_flags(self) -> np.ndarray:
        """(N,) uint8: 1 where the image is wider than high."""
        return (self.sizes_hw[:, 1] > self.sizes_hw[:, 0]).astype(np.uint8)

    def name(self, index: int) -> str:
        """Return the image's name as the label file writes it."""
        return self.labels.names[index]

    def path(self, index: int) -> Path:
        """Return the image file."""
        return self._prefixes[index] / self.labels.names[index]

    def __getitem__(self, sample_id: int | tuple[int, int]) -> Sample:
        """Return the transformed sample of (epoch, index), or of `index` in epoch 0.

        In training an unreadable image is replaced by the next readable one (in label file order), with
        the random numbers of the wanted one; the sample's notes say so.

        Raises:
            DataError: an unreadable image in test mode, or too many in a row.
        """
        epoch, index = sample_id if isinstance(sample_id, tuple) else (0, sample_id)
        rng = np.random.RandomState([self.seed, epoch, index])
        return self.pipeline_of(epoch)(self.load_readable(index), rng)

    def pipeline_of(self, epoch: int) -> Transform:
        """Return the transforms of an epoch, counted from 0."""
        if self.closing_pipeline is None or self.total_epochs is None:
            return self.pipeline
        num_closing = max(1, round(self.closing_share * self.total_epochs))
        return self.closing_pipeline if epoch >= self.total_epochs - num_closing else self.pipeline

    def load(self, index: int) -> Sample:
        """Return the sample before any transform.

        Raises:
            UnreadableImageError: the file is missing or no image.
        """
        record, path = self.labels[index], self.path(index)
        image = self._cache.get(index, path) if self._cache else None
        if image is None:
            image = read_image(path, record.size_hw)
            if self._cache:
                self._cache.put(index, path, image)
        return labelled_sample(record, image)

    def load_readable(self, index: int) -> Sample:
        """Return the sample before any transform; in training, of the next readable image if need be.

        Raises:
            DataError: too many unreadable images in a row. UnreadableImageError: one, in test mode.
        """
        if self.test_mode:
            return self.load(index)
        notes: list[Note] = []
        limit = max(1, int(MAX_UNREADABLE_FRACTION * len(self)))
        for step in range(min(limit + 1, len(self))):
            current = (index + step) % len(self)
            try:
                sample = self.load(current)
            except UnreadableImageError as error:
                notes.append(Note("unreadable", self.name(current), f"{error}; the next takes its place"))
            else:
                return sample.replace(notes=sample.notes + tuple(notes))
        first = notes[0].detail.split(";")[0]
        raise DataError(f"{len(notes)} images in a row cannot be read; the first: {first}")


def labelled_sample(record: Record, image: np.ndarray) -> Sample:
    """Return the image with its labels; a note tells a size other than the labels'."""
    height, width = image.shape[:2]
    notes: tuple[Note, ...] = ()
    if record.size_hw and (height, width) != record.size_hw:
        detail = (
            f"the file has {width}x{height} px, the label file says "
            f"{record.size_hw[1]}x{record.size_hw[0]}; the boxes may not fit"
        )
        notes = (Note("wrong size", record.name, detail),)
    return Sample(
        image=image,
        gt_bboxes=record.bboxes,
        gt_labels=record.labels,
        gt_kps=record.kps,
        gt_bboxes_ignore=record.bboxes_ignore,
        name=record.name,
        size_hw=(height, width),
        notes=notes,
    )


def blank_sample(record: Record, size_hw: Sequence[int]) -> Sample:
    """Return the labels around a black image that takes no memory, for counts that need no pixels."""
    return labelled_sample(record, np.broadcast_to(np.uint8(0), (*size_hw, 3)))
