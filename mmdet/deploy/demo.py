"""What tools/image_demo.py and tools/webcam_demo.py need: a checkpoint behind the detector's interface."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mmdet.deploy.decode import Faces
from mmdet.deploy.draw import draw_faces
from mmdet.deploy.inputs import Picture, read_video
from mmdet.deploy.ort_detector import SCRFD
from mmdet.errors import ConfigError, DataError

FindFaces = Callable[[np.ndarray], Faces]


def load_finder(
    model: str, checkpoint: str | None, thresh: float, device: str = "auto"
) -> tuple[FindFaces, tuple[str, ...]]:
    """Return a function from BGR pixels to faces, and the class names.

    Args:
        model: MODEL.onnx, or a config file with its
        checkpoint: .pth; None for ONNX.
        thresh: lowest score.
        device: of the checkpoint's model.

    Raises:
        ConfigError: a config without checkpoint, or a checkpoint beside an ONNX file.
    """
    if Path(model).suffix == ".onnx":
        if checkpoint is not None:
            raise ConfigError(f"{model} holds its weights; leave out {checkpoint}")
        detector = SCRFD(model)
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

    return find, network.CLASSES


def show_video(
    find: FindFaces, classes: tuple[str, ...], source: str | int, out: Path | None, max_frames: int = 0
) -> int:
    """Draw the faces of a camera or video in a window, or into an .mp4; return the number of frames.

    Raises:
        DataError: the source gives no frame, or the file cannot be written.
        ConfigError: no file was asked for, and this OpenCV has no windows.
    """
    frames = 0
    writer: cv2.VideoWriter | None = None
    try:
        for picture in read_video(source, max_frames):
            drawn = draw_faces(picture.image, find(picture.image), classes)
            if out is None:
                if not _show(drawn):
                    break
            else:
                writer = writer or _open_video(out, picture)
                writer.write(drawn)
            frames += 1
    except KeyboardInterrupt:
        pass
    finally:
        if writer is not None:
            writer.release()
    return frames


def _open_video(out: Path, picture: Picture) -> cv2.VideoWriter:
    size = picture.image.shape[1::-1]
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, size)
    if not writer.isOpened():
        raise DataError(f"{out}: cannot be written as mp4 video")
    return writer


def _show(drawn: np.ndarray) -> bool:
    """Show a frame; False if the user pressed q or Escape."""
    try:
        cv2.imshow("SCRFD (q ends)", drawn)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
    except cv2.error:
        raise ConfigError(
            "this OpenCV has no windows (opencv-python-headless, or no display); write a video with "
            "--out F.mp4"
        ) from None
