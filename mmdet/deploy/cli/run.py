"""tools/scrfd.py: faces in everything the user points at."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
from tqdm import tqdm

from mmdet.deploy.cli.inputs import Inputs, find_inputs, image_tasks
from mmdet.deploy.cli.outputs import OutputFiles, Products
from mmdet.deploy.cli.stream import Result, detect_stream
from mmdet.deploy.cli.video import count_frames, video_rate, video_tasks
from mmdet.deploy.cli.writers import Writer
from mmdet.deploy.runtime.checks import check_count
from mmdet.deploy.runtime.looks import smallest_face
from mmdet.deploy.runtime.options import DetectOptions
from mmdet.deploy.runtime.ort_detector import FaceDetector
from mmdet.errors import ConfigError, DataError
from mmdet.images import UnreadableImageError, quiet_opencv
from mmdet.process import keep_freed_memory

NAMED = 5  # skipped files named; the rest is counted
SMALL_FACE = 64  # pixels; images in which smaller faces are not found are remarked
ENDS_EARLY = 0.9  # a film with a smaller part of the frames it states is remarked
INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


@dataclass(frozen=True)
class RunOptions:
    """What to look for and where to write; see tools/scrfd.py."""

    out: Path | None = None
    products: Products = Products()
    overwrite: bool = False
    detect: DetectOptions = DetectOptions()
    max_frames: int = 0
    show_progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense before anything is opened."""
        if self.out is None and (what := self.products.need_folder()):
            raise ConfigError(f"{what} writes files; give a folder with --out")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"--out {self.out} is a file, not a folder")
        check_count("--max-frames", self.max_frames)


@dataclass
class RunSummary:
    """What was done.

    Attributes:
        found: the inputs, with what reading them has added.
        used: model, input size and provider.
        num_images: read, frames of videos among them.
        num_faces: in them.
        num_reduced: images so large that faces of SMALL_FACE pixels are not found in them.
        stopped: what Ctrl-C ended, in words; "" if nothing. To end a camera so is no failure.
        exit_code: of the tool.
    """

    found: Inputs
    used: str
    num_images: int = 0
    num_faces: int = 0
    num_reduced: int = 0
    stopped: str = ""
    exit_code: int = 0

    def lines(self) -> list[str]:
        """Return what to tell the user, what could not be read first."""
        told = [self.used, f"{self.num_images} pictures, {self.num_faces} faces"]
        if reasons := self.found.reasons():
            told.append(f"skipped {len(reasons)}:")
            told += [f"  {reason}" for reason in reasons[:NAMED]]
            told += [f"  and {len(reasons) - NAMED} more"] if len(reasons) > NAMED else []
        if self.num_reduced:
            told.append(
                f"faces of less than {SMALL_FACE} pixels may be missing in {self.num_reduced} large pictures"
                ": --tiles 3, or a larger --input-size"
            )
        return told + self.found.remarks + ([self.stopped] if self.stopped else [])

    def quiet_lines(self) -> list[str]:
        """Return what --quiet leaves: that not all was done."""
        told = [f"skipped {len(self.found.skipped)}"] if self.found.skipped else []
        return told + ([self.stopped] if self.exit_code else [])


def detect_inputs(detector: FaceDetector, arguments: Sequence[str], options: RunOptions) -> RunSummary:
    """Find the faces in images, folders, patterns, videos and cameras; Ctrl-C ends a camera.

    Raises:
        ConfigError: an option, or a result would overwrite a file; nothing is written then.
        DataError: something does not exist, or nothing could be read.
        WriteError: a result cannot be written.
    """
    found = find_inputs(arguments, options.out)
    for size in options.detect.sizes:
        detector.check_size(size)
    if options.products.align and detector.model.description.num_kps != 5:
        raise ConfigError(f"--align: {detector.model.name} gives no five keypoints per face")
    outputs = None
    if options.out is not None:
        outputs = OutputFiles.of(options.out, options.products, found)
        outputs.check(found, options.overwrite)
    summary = RunSummary(found, detector.describe())
    writer = Writer(outputs, detector.classes, found.remarks)
    total = _count(found, options.max_frames)
    try:
        with writer, _progress_bar(total, options.show_progress) as progress:
            num_known = len(found.skipped)  # not in the total
            for loaded, faces in _results(detector, found, writer, options):
                writer.add(loaded, faces)
                summary.num_faces += len(faces)
                summary.num_images += 1
                least = smallest_face(loaded.image.shape[:2], detector.input_hw, options.detect.tiles)
                summary.num_reduced += least > SMALL_FACE
                progress.update(summary.num_images + len(found.skipped) - num_known - progress.n)
            progress.update(summary.num_images + len(found.skipped) - num_known - progress.n)
    except KeyboardInterrupt:
        summary.stopped = f"stopped after {summary.num_images}{'' if total is None else f' of {total}'}"
        if not isinstance(writer.source, int):
            summary.exit_code = INTERRUPTED
            if left := [str(part) for part in writer.parts if part.exists()]:
                summary.stopped += f"; what was found is in {', '.join(left)}"
    if not summary.num_images and not summary.stopped:
        first = next(iter(found.reasons()), "no frame")
        raise DataError(f"none of {len(found.skipped)} files could be read: {first}")
    return summary


def _count(found: Inputs, max_frames: int) -> int | None:
    """Return the number of images and frames; None if a camera or a film does not say."""
    counts = [count_frames(video.path) for video in found.videos]
    if not all(counts):
        return None
    return len(found.files) + sum(min(count, max_frames or count) for count in counts)


def _progress_bar(total: int | None, is_shown: bool) -> tqdm:
    interval_s = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, unit="img", desc="detect", disable=not is_shown, mininterval=interval_s)


def _results(detector: FaceDetector, found: Inputs, writer: Writer, options: RunOptions) -> Iterator[Result]:
    """Yield the faces of the images, then of the frames of every video; a batch never mixes two videos."""
    yield from detect_stream(detector, image_tasks(found), found.skipped, options.detect)
    for source, name in found.videos:
        writer.source = source
        writer.rate = video_rate(source) if options.products.has_images else writer.rate
        # a camera's faces are wanted now
        how = replace(options.detect, batch_size=1) if isinstance(source, int) else options.detect
        num_read = 0
        try:
            for result in detect_stream(
                detector, video_tasks(source, options.max_frames, name), found.skipped, how
            ):
                num_read += 1
                yield result
            stated = count_frames(source)
            if not options.max_frames and num_read < ENDS_EARLY * stated:
                found.remarks.append(f"{source} ends after {num_read} of {stated} frames: it may be damaged")
        except UnreadableImageError as error:
            found.skipped[str(source)] = str(error)


def tune_process() -> None:
    """Set what a process that does nothing else is faster with, and keep OpenCV's remarks from stderr.

    Freed images are kept, not returned to the kernel and mapped anew, and OpenCV uses no threads of its
    own, since every core has an image to itself. Measured on 2 cores: 17.2 and 15.8 ms of processor time
    per image.
    """
    keep_freed_memory()
    cv2.setNumThreads(1)
    quiet_opencv()
