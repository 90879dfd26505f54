"""A detector on onnxruntime: the reference's class, and the same for many images at once."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mmdet.deploy.runtime.decode import (
    Faces,
    concatenate,
    decode_level,
    keep_largest,
    largest_sides,
    level_anchors,
    suppress,
)
from mmdet.deploy.runtime.letterbox import letterbox, normalize, reused
from mmdet.deploy.runtime.limits import check_level, check_raw
from mmdet.deploy.runtime.looks import Look, choose_tiles, keep_close_ups, place, small_size
from mmdet.deploy.runtime.options import AUTO, DetectOptions
from mmdet.deploy.runtime.session import SUFFIX, Model, check_scores, count_cores, open_model
from mmdet.errors import ConfigError, DataError
from mmdet.images import as_bgr, read_image
from mmdet.process import MAX_IMAGE_PIXELS

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger("mmdet")

DEFAULT_HW = (640, 640)
Found = tuple[np.ndarray, np.ndarray | None]
Image: TypeAlias = np.ndarray | str | Path


class FaceDetector(AbstractContextManager["FaceDetector"]):
    """A face detector from an ONNX file; `mmdet.deploy.SCRFD` is its published name.

    detector = FaceDetector("model.onnx")
    bboxes, kps = detector.detect(image)               # (n, 5) x1 y1 x2 y2 score; (n, 5, 2) or None
    found = detector.detect_batch(images)              # a list of such pairs

    Safe to use from several threads, in a forked process, and to pickle; as a context manager it ends its
    threads.

    Args:
        model_file: made by tools/scrfd2onnx.py or a published one.
        session: an open onnxruntime session instead of a file.
        provider: "auto", or a name such as "cpu", or several in order of preference.
        threads: cores to use on the CPU; 0 for all.
        device_id: of the accelerator.
        changes: of `DetectOptions`, for example det_size; and providers, onnxruntime's name for provider.

    Attributes:
        model: the session and the description of the graph.
        options: what a call uses unless it says otherwise; `prepare` changes it.

    Raises:
        CheckpointError: not a face detector. DeviceError: the provider is missing.
    """

    def __init__(
        self,
        model_file: str | Path | None = None,
        session: "onnxruntime.InferenceSession | None" = None,
        *,
        provider: str | Sequence[str] = "auto",
        threads: int = 0,
        device_id: int = 0,
        **changes: Any,
    ) -> None:
        if (model_file is None) == (session is None):
            raise ConfigError("SCRFD needs a model_file or a session, not both")
        if model_file is not None:
            provider = changes.pop("providers", None) or provider
            self.model = open_model(model_file, provider, threads, device_id)
        else:
            self.model = Model(session, num_cores=count_cores())
        self.options = DetectOptions()
        self._warned: set[str] = set()
        if changes:
            self.prepare(**changes)

    def __exit__(self, *error: object) -> None:
        """End the detector's threads."""
        self.model.close()

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.model.description.classes

    def describe(self) -> str:
        """Return "model.onnx, input 640x640, on CPU"."""
        height, width = self.input_hw
        provider = self.model.providers[0].removesuffix(SUFFIX)
        return f"{Path(self.model.name).name}, input {width}x{height}, on {provider}"

    @property
    def input_hw(self) -> tuple[int, int]:
        """Return height and width that images are fitted into."""
        sizes = [(height, width) for width, height in self.options.sizes]
        return self.model.fixed_hw or max(sizes, default=DEFAULT_HW)

    @property
    def det_thresh(self) -> float:
        """Return the lowest score; the reference's name."""
        return self.options.score_thr

    @property
    def nms_thresh(self) -> float:
        """Return the largest overlap of two faces; the reference's name."""
        return self.options.iou_thr

    def prepare(self, ctx_id: int = 0, **changes: Any) -> None:
        """Set what later calls use; None leaves a value as it is.

        Args:
            ctx_id: negative: run on the CPU from now on.
            changes: of `DetectOptions`, also by the reference's names: nms_thresh, det_thresh, input_size. A
                graph of fixed size keeps its own size, with a warning, as the reference does.

        A graph that holds its own NMS has fixed both thresholds; they can only be made stricter here, and
        what asks for more is warned about once.

        Raises:
            ConfigError: a threshold is not from 0 to 1, or the graph cannot take the size.
        """
        options = self.options.changed(**changes)
        fixed = self.model.fixed_hw
        if fixed is not None and options.input_size not in (None, fixed[::-1]):
            logger.warning(
                "%s has a fixed input of %dx%d; input_size is not used", self.model.name, *fixed[::-1]
            )
            options = replace(options, input_size=None)
        for size in options.sizes:
            self.check_size(size)
        if ctx_id < 0:
            self.model.use_cpu()
        self._warn_if_fixed(options)
        self.options = options

    def detect(self, img: Image, *args: object, **changes: Any) -> Found:
        """Detect faces in one image.

        Args:
            img: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) gray pixels of 0..255, or a file.
            args: [lowest score,] input_size, max_num, metric, as the reference's class takes them.
            changes: of `DetectOptions`, for this call; also thresh, det_thresh and nms_thresh.

        Returns:
            (n, 5) float32 x1, y1, x2, y2, score in pixels of the image, best first; (n, K, 2) float32
            keypoints, or None if the model has none.
        """
        (found,) = self.find([img], self.options.changed(*args, **changes))
        return found.bboxes, found.kps

    def detect_batch(
        self, images: Sequence[Image], batch_size: int | None = None, **changes: Any
    ) -> list[Found]:
        """Detect faces in images of any sizes, `batch_size` at once; as `detect` for each of them.

        An accelerator gets them as one batch (a graph of fixed batch size: as many as that needs, the last
        filled up); on the CPU every core takes one image after the other, which is faster there.
        """
        found = self.predict(images, batch_size, **changes)
        return [(faces.bboxes, faces.kps) for faces in found]

    def predict(self, images: Sequence[Image], batch_size: int | None = None, **changes: Any) -> list[Faces]:
        """Return what `detect_batch` does as `Faces`, which also say the class."""
        return self.find(images, self.options.changed(batch_size=batch_size, **changes))

    def find(self, images: Sequence[Image], options: DetectOptions) -> list[Faces]:
        """Return the faces of each image, found as `options` say; see `detect_batch`.

        Raises:
            DataError: one of the images is none, or is given alone and not in a list.
            CheckpointError: the network gives what no detector gives.
        """
        if isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim < 4):
            raise DataError("images: a list of images is expected, and one image was given; put it into [ ]")
        self._warn_if_fixed(options)
        sizes_hw = [self.check_size(size) for size in options.sizes] or [self.input_hw]

        def find_part(first: int, last: int) -> list[Faces]:
            pixels = [_pixels(image, first + i) for i, image in enumerate(images[first:last])]
            raw = self._all_looks(pixels, sizes_hw, options)
            return [
                keep_largest(suppress(r, options.iou_thr), options.max_num, options.metric, p.shape[:2])
                for r, p in zip(raw, pixels, strict=True)
            ]

        step = 1 if self.model.takes_single else options.batch_size
        starts = range(0, len(images), step)
        pool = self.model.start_pool() if len(starts) > 1 else None
        run = map if pool is None else pool.map
        parts = run(find_part, starts, (start + step for start in starts))
        return [faces for part in parts for faces in part]

    def _all_looks(
        self, images: Sequence[np.ndarray], sizes_hw: Sequence[tuple[int, int]], options: DetectOptions
    ) -> list[Faces]:
        """Return the candidates of each image, in its own pixels, from every look at it."""
        looks: list[list[Look]] = [[] for _ in images]
        for hw in sizes_hw:
            for found, look in zip(looks, self._look(images, hw, hw, options.score_thr), strict=True):
                found.append(look)
        input_hw = max(sizes_hw)
        small_hw = small_size(input_hw, max(self.model.description.strides))
        second = [i for i, found in enumerate(looks) if _wants_second(found, images[i], options)]
        close = [images[i] for i in second]
        again = self._look(close, self.model.fixed_hw or small_hw, small_hw, options.score_thr)
        for i, look in zip(second, again, strict=True):
            looks[i].append(Look(keep_close_ups(look.faces, images[i].shape[:2])))
        for image, found in zip(images, looks, strict=True):
            found += self._look_at_tiles(image, input_hw, options)
        return [concatenate([look.faces for look in found]) for found in looks]

    def _look_at_tiles(
        self, image: np.ndarray, input_hw: tuple[int, int], options: DetectOptions
    ) -> list[Look]:
        """Return the candidates in each tile of an image, in the image's pixels."""
        image_hw = image.shape[:2]
        tiles = choose_tiles(image_hw, input_hw, options.tiles)
        parts = [image[tile.y1 : tile.y2, tile.x1 : tile.x2] for tile in tiles]
        found: list[Look] = []
        for first in range(0, len(parts), options.batch_size):
            part = parts[first : first + options.batch_size]
            found += self._look(part, input_hw, input_hw, options.score_thr)
        return [Look(place(look.faces, tile, image_hw)) for look, tile in zip(found, tiles, strict=True)]

    def _look(
        self, images: Sequence[np.ndarray], input_hw: tuple[int, int], fit_hw: tuple[int, int], thresh: float
    ) -> list[Look]:
        """Return what is seen of each image, fitted into a part of a canvas; in its own pixels, before NMS.

        One run of the network, or as many as its batch size asks for.
        """
        facts = self.model.description
        shape = (len(images), len(facts.mean), *input_hw)
        blob = reused("blob", shape, np.float32) if len(images) == 1 else np.empty(shape, np.float32)

        def prepare(number: int) -> float:
            canvas, scale = letterbox(images[number], input_hw, fit_hw, reused("canvas", (*input_hw, 3)))
            normalize(canvas, facts.mean, facts.std, facts.channels == "RGB", blob[number])
            return scale

        scales = list(self.model.spread(prepare, range(len(images))))
        found: list[Look] = []
        for part, num in _split(blob, self.model.fixed_batch):
            found += self._decode(self.model.run(part), input_hw, len(part), thresh)[:num]
        return [look.scaled(scale) for look, scale in zip(found, scales, strict=True)]

    def _decode(
        self, raw: list[np.ndarray], input_hw: tuple[int, int], num: int, thresh: float
    ) -> list[Look]:
        """Return what is seen of `num` images, in pixels of the network input."""
        facts = self.model.description
        check_raw(raw, facts, self.model.name)
        largest = np.full(num, np.inf)  # a graph with its own NMS keeps to itself what it has left out
        if facts.nms is not None:
            bboxes, scores, labels, image = raw[:4]
            check_scores(scores, self.model.name)
            keep = scores >= thresh
            faces = Faces(
                np.concatenate((bboxes, scores[:, None]), axis=1), raw[4] if facts.num_kps else None, labels
            )
            image, faces = image[keep], faces.take(keep)
            if self.model.fixed_hw:  # there a second look costs as much as the first: where nothing was found
                largest[image] = 0
        else:
            parts, decoder = [], self.model.decoder
            whs = facts.anchors or ((),) * len(facts.strides)
            for stride, wh, level in zip(facts.strides, whs, self.model.levels(raw), strict=True):
                check_level(level, facts, self.model.name)
                check_scores(level.scores, self.model.name)
                height, width = (-(-side // stride) for side in input_hw)
                anchors = level_anchors(height, width, stride, facts.num_anchors, wh, facts.center_offset)
                if len(anchors.center) != level.scores.shape[1]:
                    raise ConfigError(
                        f"{self.model.name} gives {level.scores.shape[1]} anchors at stride {stride} for an "
                        f"input of {input_hw[1]}x{input_hw[0]}, expected {len(anchors.center)}; use "
                        f"multiples of {max(facts.strides)}"
                    )
                parts.append(decode_level(*level, anchors, decoder, thresh))
            largest = largest_sides(level.bbox, anchors, decoder)  # of the coarsest level
            image = np.concatenate([index for index, _ in parts])
            faces = concatenate([found for _, found in parts])
        return [Look(faces.take(np.flatnonzero(image == number)), largest[number]) for number in range(num)]

    def _warn_if_fixed(self, options: DetectOptions) -> None:
        """Warn once about each threshold looser than the one inside the graph."""
        nms = self.model.description.nms
        if nms is None:
            return
        checks = (
            ("overlap", options.iou_thr, nms["iou_threshold"], 1, DetectOptions.iou_thr),
            ("score", options.score_thr, nms["score_threshold"], -1, DetectOptions.score_thr),
        )
        for what, asked, limit, sign, default in checks:
            if asked == default or sign * (asked - limit) <= 1e-6 or what in self._warned:
                continue
            self._warned.add(what)
            logger.warning(
                "%s holds its own NMS with %s %s %g; %g has no effect. Export it without --with-nms",
                self.model.name, what, "at most" if sign > 0 else "at least", limit, asked,
            )  # fmt: skip

    def check_size(self, input_size: Sequence[int]) -> tuple[int, int]:
        """Return height and width of a width and height.

        Raises:
            ConfigError: the graph, or the decoding of its outputs, cannot take this size.
        """
        width, height = input_size
        if min(width, height) < 1:
            raise ConfigError(f"input_size {width}x{height}: both must be positive")
        if width * height > MAX_IMAGE_PIXELS:
            raise ConfigError(f"input_size {width}x{height}: at most {MAX_IMAGE_PIXELS} pixels")
        fixed = self.model.fixed_hw
        if fixed not in (None, (height, width)):
            wanted = "x".join(map(str, fixed[::-1]))  # type: ignore[index]
            raise ConfigError(f"{self.model.name} has a fixed input of {wanted}, not {width}x{height}")
        multiple = max(self.model.description.strides)
        near = [max(round(side / multiple), 1) * multiple for side in (width, height)]
        if fixed is None and near != [width, height]:
            raise ConfigError(
                f"input_size {width}x{height}: give multiples of {multiple}, for example {near[0]}x{near[1]}"
            )
        return height, width


def _wants_second(found: Sequence[Look], image: np.ndarray, options: DetectOptions) -> bool:
    """Return whether to look at an image a second time at a quarter of the size."""
    if options.two_scale != AUTO:
        return bool(options.two_scale)
    return len(found) == 1 and found[0].may_hide_close_up(image.shape[:2])


def _pixels(image: Image, number: int) -> np.ndarray:
    if isinstance(image, (str, Path)):
        return read_image(image)
    return as_bgr(image, f"image {number}")


def _split(blob: np.ndarray, fixed_batch: int | None) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (input, images in it): all at once, or in batches of the graph's size, the last filled up."""
    size = fixed_batch or max(len(blob), 1)
    for first in range(0, len(blob), size):
        part = blob[first : first + size]
        missing = size - len(part) if fixed_batch else 0
        yield (np.concatenate((part, np.repeat(part[-1:], missing, axis=0))) if missing else part), len(part)
