"""tools/scrfd.py: faces in everything the user points at."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from tqdm import tqdm

from mmdet.deploy.cli.inputs import NOT_MEDIA, Inputs, find_inputs, picture_tasks, video_rate, video_tasks
from mmdet.deploy.cli.outputs import Outputs
from mmdet.deploy.cli.stream import Result, detect_stream
from mmdet.deploy.cli.writers import FORMATS, Writer
from mmdet.deploy.runtime.checks import check_count, check_fraction
from mmdet.deploy.runtime.ort_detector import SCRFD
from mmdet.errors import ConfigError, DataError, unknown_name
from mmdet.images import UnreadableImageError
from mmdet.process import keep_freed_memory

NAMED = 5  # skipped files named; the rest is counted
INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


@dataclass(frozen=True)
class RunOptions:
    """What to look for and where to write; see tools/scrfd.py. Thresholds: None leaves them as prepared."""

    out: Path | None = None
    file_format: str = "json"
    draw: bool = False
    thresh: float | None = None
    nms_thresh: float | None = None
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
        check_count("--batch-size", self.batch_size, 1)
        check_count("--max-num", self.max_num)
        check_count("--max-frames", self.max_frames)
        for name, value in (("--thr", self.thresh), ("--nms", self.nms_thresh)):
            if value is not None:
                check_fraction(name, value)


@dataclass
class RunSummary:
    """What was done.

    Attributes:
        num_pictures: read, frames of videos among them.
        num_faces: in them.
        skipped: path -> reason.
        left_out: what `find_inputs` has left out, in words; "" for nothing.
        stopped: what Ctrl-C ended, in words; "" if nothing. To end a camera so is no failure.
        exit_code: of the tool.
    """

    num_pictures: int = 0
    num_faces: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: str = ""
    stopped: str = ""
    exit_code: int = 0

    def lines(self) -> list[str]:
        """Return what to tell the user, what could not be read first."""
        told = [f"{self.num_pictures} pictures, {self.num_faces} faces"]
        if self.skipped:
            told.append(f"skipped {len(self.skipped)}:")
            ordered = sorted(self.skipped.items(), key=lambda item: item[1] == NOT_MEDIA)
            told += [f"  {_reason(path, why)}" for path, why in ordered[:NAMED]]
            told += [f"  and {len(ordered) - NAMED} more"] if len(ordered) > NAMED else []
        return told + [line for line in (self.left_out, self.stopped) if line]

    def quiet_lines(self) -> list[str]:
        """Return what to tell even one who wants to hear nothing: that not all was done."""
        told = [f"skipped {len(self.skipped)}"] if self.skipped else []
        return told + ([self.stopped] if self.exit_code else [])


def detect_inputs(detector: SCRFD, arguments: Sequence[str], options: RunOptions) -> RunSummary:
    """Find the faces in pictures, folders, patterns, videos and cameras; Ctrl-C ends a camera.

    Raises:
        ConfigError: an option, or a result that would overwrite what is no result; nothing is written then.
        DataError: something does not exist, nothing could be read, or a result cannot be written.
    """
    found = find_inputs(arguments, options.out)
    detector.prepare(nms_thresh=options.nms_thresh, det_thresh=options.thresh)
    if options.input_size is not None:
        detector.check_size(options.input_size)
    outputs = None
    if options.out is not None:
        outputs = Outputs.of(options.out, options.file_format, options.draw, found)
        outputs.check(found)
    summary = RunSummary(skipped=found.skipped)
    if found.num_left_out:
        summary.left_out = f"left out {found.num_left_out} below {options.out}, the folder of the results"
    total = len(found.files) if not found.videos else None
    num_known = len(found.skipped)  # not in the total
    hide = not options.show_progress
    interval_s = 0.2 if sys.stderr.isatty() else 10.0
    with (
        Writer(outputs, detector.classes) as writer,
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
            writer.is_complete = isinstance(writer.source, int)
            summary.exit_code = 0 if writer.is_complete else INTERRUPTED
            of = "" if total is None else f" of {total}"
            summary.stopped = f"stopped after {summary.num_pictures}{of}"
            if not writer.is_complete and writer.parts:
                summary.stopped += f"; what was found is in {', '.join(map(str, writer.parts))}"
    if not summary.num_pictures and not summary.stopped:
        raise DataError(f"none of {len(found.skipped)} files could be read: {_first(found.skipped)}")
    return summary


def _results(detector: SCRFD, found: Inputs, writer: Writer, options: RunOptions) -> Iterator[Result]:
    """Yield the faces of the pictures, then of the frames of every video; a batch never mixes two videos."""
    how = (options.input_size, options.max_num, options.two_scale)
    yield from detect_stream(detector, picture_tasks(found), found.skipped, options.batch_size, *how)
    for source, name in found.video_names.items():
        writer.source = source
        writer.rate = video_rate(source) if options.draw else writer.rate
        size = 1 if isinstance(source, int) else options.batch_size  # a camera's faces are wanted now
        frames = video_tasks(source, options.max_frames, name)
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
    ordered = sorted(skipped.items(), key=lambda item: item[1] == NOT_MEDIA)
    return _reason(*ordered[0]) if ordered else "no frame"


def _reason(path: str, why: str) -> str:
    return why if path in why else f"{path}: {why}"
