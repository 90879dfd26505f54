"""tools/scrfd.py: faces in everything the user points at."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from mmdet.datasets.images import UnreadableImageError
from mmdet.deploy.inputs import Inputs, find_inputs, picture_tasks, video_rate, video_tasks
from mmdet.deploy.ort_detector import SCRFD
from mmdet.deploy.stream import Result, detect_stream
from mmdet.deploy.writers import FORMATS, Writer
from mmdet.errors import ConfigError, DataError, unknown_name
from mmdet.memory import keep_freed_memory

NAMED = 5  # skipped files named; the rest is counted


@dataclass(frozen=True)
class RunOptions:
    """What to look for and where to write; see tools/scrfd.py."""

    out: Path | None = None
    file_format: str = "json"
    draw: bool = False
    thresh: float = 0.5
    nms_thresh: float = 0.4
    input_size: tuple[int, int] | None = None
    batch_size: int = 16
    two_scale: bool = False
    max_num: int = 0
    max_frames: int = 0
    show_progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense before anything is opened."""
        if self.file_format not in FORMATS:
            raise ConfigError(unknown_name("--format", self.file_format, FORMATS))
        if self.out is None and (self.draw or self.file_format != "json"):
            what = "--draw" if self.draw else f"--format {self.file_format}"
            raise ConfigError(f"{what} writes files; give a folder with --out")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"--out {self.out} is a file, not a folder")
        if self.batch_size < 1:
            raise ConfigError(f"--batch-size {self.batch_size}: at least 1")
        for name, value in (("--thr", self.thresh), ("--nms", self.nms_thresh)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} {value}: from 0 to 1")


@dataclass
class RunSummary:
    """What was done."""

    num_pictures: int = 0
    num_faces: int = 0
    skipped: dict[str, str] | None = None

    def lines(self) -> list[str]:
        """Return what to tell the user."""
        skipped = self.skipped or {}
        told = [f"{self.num_pictures} pictures, {self.num_faces} faces"]
        if skipped:
            told.append(f"skipped {len(skipped)}:")
            told += [f"  {_reason(path, why)}" for path, why in list(skipped.items())[:NAMED]]
            told += [f"  and {len(skipped) - NAMED} more"] if len(skipped) > NAMED else []
        return told


def detect_inputs(detector: SCRFD, arguments: Sequence[str], options: RunOptions) -> RunSummary:
    """Find the faces in pictures, folders, patterns, videos and cameras; Ctrl-C ends a camera.

    Raises:
        DataError: something does not exist, nothing could be read, or a result cannot be written.
    """
    found = find_inputs(arguments)
    detector.prepare(nms_thresh=options.nms_thresh, det_thresh=options.thresh)
    summary = RunSummary(skipped=found.skipped)
    total = len(found.files) if not found.videos else None
    num_known = len(found.skipped)  # not in the total
    hide = not options.show_progress
    interval_s = 0.2 if sys.stderr.isatty() else 10.0
    with (
        Writer(options.out, options.file_format, options.draw, detector.classes) as writer,
        tqdm(total=total, unit="img", desc="detect", disable=hide, mininterval=interval_s) as progress,
    ):
        try:
            for picture, faces in _results(detector, found, writer, options):
                writer.add(picture, faces)
                summary.num_faces += len(faces)
                summary.num_pictures += 1
                progress.update(summary.num_pictures + len(found.skipped) - num_known - progress.n)
            progress.update(summary.num_pictures + len(found.skipped) - num_known - progress.n)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    if not summary.num_pictures:
        raise DataError(f"none of {len(found.skipped)} files could be read: {_first(found.skipped)}")
    return summary


def _results(detector: SCRFD, found: Inputs, writer: Writer, options: RunOptions) -> Iterator[Result]:
    """Yield the faces of the pictures, then of the frames of every video; a batch never mixes two videos."""
    how = (options.input_size, options.max_num, options.two_scale)
    yield from detect_stream(detector, picture_tasks(found), found.skipped, options.batch_size, *how)
    for source in found.videos:
        writer.rate = video_rate(source) if options.draw else writer.rate
        size = 1 if isinstance(source, int) else options.batch_size  # a camera's faces are wanted now
        frames = video_tasks(source, options.max_frames)
        try:
            yield from detect_stream(detector, frames, found.skipped, size, *how)
        except UnreadableImageError as error:
            found.skipped[str(source)] = str(error)


def tune_process() -> None:
    """Set what a process that does nothing else is faster with, and keep OpenCV's remarks from stderr.

    Freed pictures are kept, not returned to the kernel and mapped anew, and OpenCV uses no threads of its
    own, since every core has a picture to itself. Measured on 2 cores: 17.2 and 15.8 ms of processor time
    per picture.
    """
    keep_freed_memory()
    cv2.setNumThreads(1)
    in_opencv_5 = getattr(cv2.utils, "logging", cv2)
    in_opencv_5.setLogLevel(0)  # silent: what fails is raised, and told in one line
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def _first(skipped: dict[str, str]) -> str:
    return next((_reason(path, why) for path, why in skipped.items()), "no frame")


def _reason(path: str, why: str) -> str:
    return why if path in why else f"{path}: {why}"
