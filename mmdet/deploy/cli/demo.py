"""What tools/image_demo.py and tools/webcam_demo.py need: a checkpoint behind the detector's interface."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import cv2
import numpy as np

from mmdet.deploy.cli.draw import draw_faces
from mmdet.deploy.cli.video import add_sound, read_video, video_rate, write_video
from mmdet.deploy.runtime.checks import check_count, check_fraction
from mmdet.deploy.runtime.decode import Faces
from mmdet.deploy.runtime.letterbox import letterbox
from mmdet.deploy.runtime.looks import keep_close_ups, small_size
from mmdet.deploy.runtime.ort_detector import FaceDetector
from mmdet.errors import ConfigError

logger = logging.getLogger("mmdet")

NO_WINDOW = "no window can be opened (opencv-python-headless, or no display); write a video with --out F.mp4"
FindFaces = Callable[[np.ndarray], Faces]


def load_finder(
    model: str, checkpoint: str | None, score_thr: float, device: str = "auto"
) -> tuple[FindFaces, tuple[str, ...]]:
    """Return a function from BGR pixels to faces, and the class names.

    Args:
        model: MODEL.onnx, or a config file with its
        checkpoint: .pth; None for ONNX.
        score_thr: lowest score.
        device: of the checkpoint's model; for ONNX the provider.

    Raises:
        ConfigError: a config without checkpoint, or a checkpoint beside an ONNX file.
        CheckpointError, DeviceError, DataError: see their messages.
    """
    check_fraction("--score-thr", score_thr)
    if Path(model).suffix.lower() == ".onnx":
        if checkpoint is not None:
            raise ConfigError(f"{model} holds its weights; leave out {checkpoint}")
        detector = FaceDetector(model, provider=device, score_thr=score_thr)
        return (lambda image: detector.predict([image])[0]), detector.classes
    if checkpoint is None:
        raise ConfigError(f"{model}: give CONFIG CHECKPOINT, or MODEL.onnx")
    from mmdet.apis import detect, init_detector  # torch

    network = init_detector(model, checkpoint, device, {"test_cfg.score_thr": score_thr})

    def look(image: np.ndarray) -> Faces:
        (found,) = detect(network, [image])
        bboxes = np.concatenate((found.bboxes.numpy(), found.scores.numpy()[:, None]), axis=1)
        return Faces(bboxes, None if found.kps is None else found.kps.numpy(), found.labels.numpy())

    def find(image: np.ndarray) -> Faces:
        found = look(image)
        if len(found):
            return found
        side = max(image.shape[:2])  # a face that fills the image?
        canvas, scale = letterbox(image, (side, side), small_size((side, side), 1))
        return keep_close_ups(look(canvas).scaled(scale), image.shape[:2])

    return find, ("face",) if network.CLASSES == ("FG",) else network.CLASSES  # as published files say


def show_video(
    find: FindFaces, classes: tuple[str, ...], source: str | int, out: Path | None, max_frames: int = 0
) -> int:
    """Draw the faces of a camera or video in a window, or into an .mp4; return the number of frames.

    Raises:
        DataError: the source gives no frame.
        WriteError: the file cannot be written.
        ConfigError: no file was asked for, and this OpenCV has no windows; or max_frames is negative.
    """
    check_count("--max-frames", max_frames)
    if out is None and not _has_screen():
        raise ConfigError(NO_WINDOW)
    num_frames = 0
    rate = video_rate(source) if out is not None else 0.0  # before it is read: a camera opens only once
    show: Callable[..., bool | None] = _show
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        for loaded in read_video(source, max_frames):
            if out is not None and not num_frames:
                size_wh = (loaded.image.shape[1], loaded.image.shape[0])
                show = stack.enter_context(write_video(out, rate, size_wh))
            if show(draw_faces(loaded.image, find(loaded.image), classes), loaded.time_s) is False:
                break
            num_frames += 1
    if out is not None and (remark := add_sound(out, source)):
        logger.warning(remark)
    return num_frames


def _show(drawn: np.ndarray, time_s: float | None) -> bool:  # noqa: ARG001
    """Show a frame; False if the user pressed q or Escape."""
    try:
        cv2.imshow("SCRFD (q ends)", drawn)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
    except cv2.error:
        raise ConfigError(NO_WINDOW) from None


def _has_screen() -> bool:
    """Return whether a window can be opened; some builds of OpenCV end the program when it cannot."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
