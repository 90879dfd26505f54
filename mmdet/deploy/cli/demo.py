"""What tools/image_demo.py and tools/webcam_demo.py need: a checkpoint behind the detector's interface."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mmdet.deploy.cli.draw import draw_faces
from mmdet.deploy.cli.inputs import Picture, read_video, video_rate
from mmdet.deploy.runtime.checks import check_count, check_fraction
from mmdet.deploy.runtime.decode import Faces
from mmdet.deploy.runtime.ort_detector import SCRFD
from mmdet.errors import ConfigError, DataError

NO_WINDOW = "no window can be opened (opencv-python-headless, or no display); write a video with --out F.mp4"
FindFaces = Callable[[np.ndarray], Faces]


def load_finder(
    model: str, checkpoint: str | None, thresh: float, device: str = "auto"
) -> tuple[FindFaces, tuple[str, ...]]:
    """Return a function from BGR pixels to faces, and the class names.

    Args:
        model: MODEL.onnx, or a config file with its
        checkpoint: .pth; None for ONNX.
        thresh: lowest score.
        device: of the checkpoint's model; for ONNX the provider.

    Raises:
        ConfigError: a config without checkpoint, or a checkpoint beside an ONNX file.
        CheckpointError, DeviceError, DataError: see their messages.
    """
    check_fraction("--score-thr", thresh)
    if Path(model).suffix.lower() == ".onnx":
        if checkpoint is not None:
            raise ConfigError(f"{model} holds its weights; leave out {checkpoint}")
        detector = SCRFD(model, provider=device)
        detector.prepare(det_thresh=thresh)
        return (lambda image: detector.predict([image])[0]), detector.classes
    if checkpoint is None:
        raise ConfigError(f"{model}: give CONFIG CHECKPOINT, or MODEL.onnx")
    from mmdet.apis import detect, init_detector  # torch

    network = init_detector(model, checkpoint, device, {"test_cfg.score_thr": thresh})

    def find(image: np.ndarray) -> Faces:
        (found,) = detect(network, [image])
        bboxes = np.concatenate((found.bboxes.numpy(), found.scores.numpy()[:, None]), axis=1)
        return Faces(bboxes, None if found.kps is None else found.kps.numpy(), found.labels.numpy())

    return find, ("face",) if network.CLASSES == ("FG",) else network.CLASSES  # as published files say


def show_video(
    find: FindFaces, classes: tuple[str, ...], source: str | int, out: Path | None, max_frames: int = 0
) -> int:
    """Draw the faces of a camera or video in a window, or into an .mp4; return the number of frames.

    Raises:
        DataError: the source gives no frame, or the file cannot be written.
        ConfigError: no file was asked for, and this OpenCV has no windows; or max_frames is negative.
    """
    check_count("--max-frames", max_frames)
    if out is None and not _has_screen():
        raise ConfigError(NO_WINDOW)
    frames = 0
    rate = video_rate(source) if out is not None else 0.0  # before it is read: a camera opens only once
    writer: cv2.VideoWriter | None = None
    try:
        for picture in read_video(source, max_frames):
            drawn = draw_faces(picture.image, find(picture.image), classes)
            if out is None:
                if not _show(drawn):
                    break
            else:
                writer = writer or _open_video(out, picture, rate)
                writer.write(drawn)
            frames += 1
    except KeyboardInterrupt:
        pass
    finally:
        if writer is not None:
            writer.release()
    return frames


def _open_video(out: Path, picture: Picture, rate: float) -> cv2.VideoWriter:
    size = picture.image.shape[1::-1]
    if not out.parent.is_dir():
        raise DataError(f"{out.parent}: no such folder")
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise DataError(f"{out}: this OpenCV cannot write it; give a name that ends in .mp4")
    return writer


def _show(drawn: np.ndarray) -> bool:
    """Show a frame; False if the user pressed q or Escape."""
    try:
        cv2.imshow("SCRFD (q ends)", drawn)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
    except cv2.error:
        raise ConfigError(NO_WINDOW) from None


def _has_screen() -> bool:
    """Return whether a window can be opened; some builds of OpenCV end the program when it cannot."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
