"""Where the results of a run go: JSON lines, text files, WIDER FACE files, images, videos."""

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from mmdet.deploy.align import align_faces, blur_faces, crop_faces
from mmdet.deploy.cli.draw import draw_faces
from mmdet.deploy.cli.outputs import RESULTS, OutputFiles
from mmdet.deploy.cli.video import DEFAULT_RATE, LoadedImage, add_sound, write_video
from mmdet.deploy.runtime.decode import Faces
from mmdet.errors import ConfigError
from mmdet.files import atomic_write, write_bytes, write_text


class Writer(AbstractContextManager["Writer"]):
    """Takes one image after the other; a context manager, so that files are closed.

    Nothing is written before the first image comes. One file for many images, detections.jsonl or a
    video, is NAME.part.SUFFIX until it is complete, so that it never replaces an earlier one half done.

    Args:
        outputs: the names of the files; None: JSON lines on standard output, and nothing else. Formats:
            "json": one detections.jsonl; "txt": NAME.txt per image with a line
            "x1 y1 x2 y2 score [x y ...]" per face; "widerface": EVENT/NAME.txt as its evaluation reads.
        classes: names.
        remarks: gets why films have no sound.

    Attributes:
        source: the video or the camera that is read.
        rate: frames per second of the video to be drawn.
        parts: unfinished files.
    """

    def __init__(self, outputs: OutputFiles | None, classes: tuple[str, ...], remarks: list[str]) -> None:
        self.outputs, self.classes, self.remarks = outputs, classes, remarks
        file_format = "json" if outputs is None else outputs.products.file_format
        self.write_one: Callable[[LoadedImage, Faces], None] = getattr(self, f"_write_{file_format}")
        self.stream: TextIO | None = sys.stdout if outputs is None else None
        self.source: str | int | None = None
        self.rate = DEFAULT_RATE
        self.parts: list[Path] = []  # what an interrupted run leaves
        self._open = ExitStack()  # detections.jsonl, and a video for it
        self._video = ExitStack()
        self._video_name = ""

    def __exit__(self, kind: type | None, *error: Any) -> None:
        """Close what is open; Ctrl-C ends a camera's files well, and leaves parts of the others."""
        if kind is KeyboardInterrupt and isinstance(self.source, int):
            kind, error = None, (None, None)
        try:
            self._video.__exit__(kind, *error)
        finally:
            self._open.__exit__(kind, *error)

    @property
    def _outputs(self) -> OutputFiles:
        assert self.outputs is not None
        return self.outputs

    def add(self, loaded: LoadedImage, found: Faces) -> None:
        """Write the faces of one image.

        Raises:
            WriteError: a file cannot be written.
        """
        self.write_one(loaded, found)
        if self.outputs is None:
            return
        products = self.outputs.products
        if products.has_images:
            drawn = blur_faces(loaded.image, found.bboxes) if products.blur else loaded.image
            drawn = draw_faces(drawn, found, self.classes) if products.draw else drawn
            if loaded.frame is None:
                self._write_image(self.outputs.drawn(loaded.name, is_frame=False), drawn)
            else:
                self._write_frame(loaded, drawn)
        if products.crop:
            self._write_faces("crops", loaded, crop_faces(loaded.image, found.bboxes))
        if products.align:
            self._write_faces("aligned", loaded, align_faces(loaded.image, found.kps, products.align))

    def _write_json(self, loaded: LoadedImage, found: Faces) -> None:
        if self.stream is None:
            part = self._open.enter_context(
                atomic_write(self._outputs.out / RESULTS, parents=True, keep_part=True)
            )
            self.stream = self._open.enter_context(part.open("w", encoding="utf-8"))
            self.parts.append(part)
        self.stream.write(json.dumps(to_record(loaded, found, self.classes)) + "\n")
        self.stream.flush()

    def _write_txt(self, loaded: LoadedImage, found: Faces) -> None:
        num_kps = 0 if found.kps is None else found.kps.shape[1]
        points = [] if found.kps is None else [found.kps.reshape(len(found), 2 * num_kps)]
        line = " ".join(["%.2f"] * 4 + ["%.5f"] + ["%.2f"] * 2 * num_kps)
        lines = [line % tuple(row) for row in np.hstack([found.bboxes, *points]).tolist()]
        path = self._outputs.text(loaded.name, loaded.frame)
        write_text(path, "".join(f"{line}\n" for line in lines), parents=True, durable=False)

    def _write_widerface(self, loaded: LoadedImage, found: Faces) -> None:
        from mmdet.evaluation.widerface.files import write_predictions  # scipy, for this format only

        event, name = self._outputs.widerface(loaded.name, loaded.frame)
        rows = found.bboxes[found.labels == 0].copy()
        rows[:, 2:4] -= rows[:, :2]
        write_predictions({event: {name: rows}}, self._outputs.out)

    def _write_faces(self, kind: str, loaded: LoadedImage, faces: Iterable[np.ndarray]) -> None:
        for index, face in enumerate(faces):
            self._write_image(self._outputs.face(kind, loaded.name, loaded.frame, index), face)

    def _write_image(self, path: Path, image: np.ndarray) -> None:
        write_bytes(path, encode_image(image, ".jpg"), parents=True, durable=False)

    def _write_frame(self, loaded: LoadedImage, drawn: np.ndarray) -> None:
        if self._video_name != loaded.name:
            self._video.close()
            path = self._outputs.drawn(loaded.name, is_frame=True)
            size_wh = (drawn.shape[1], drawn.shape[0])
            self._video.push(partial(self._add_sound, path, self.source))  # when the video is complete
            self._add_frame = self._video.enter_context(
                write_video(path, self.rate, size_wh, parents=True, keep_part=True)
            )
            self._video_name = loaded.name
            self.parts.append(path.with_name(f"{path.stem}.part{path.suffix}"))
        self._add_frame(drawn, loaded.time_s)

    def _add_sound(self, film: Path, source: str | int | None, error: type | None, *_: Any) -> None:
        remark = add_sound(film, source) if error is None else ""
        if remark and remark not in self.remarks:
            self.remarks.append(remark)


def encode_image(image: np.ndarray, suffix: str) -> bytes:
    """Return the bytes of an image file of this type; JPEG at quality 95.

    Raises:
        ConfigError: OpenCV writes no such type.
    """
    try:
        is_encoded, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    except cv2.error:
        is_encoded = False
    if not is_encoded:
        raise ConfigError(f"{suffix or 'a name without suffix'}: no image type; give .jpg or .png")
    return data.tobytes()


def to_record(loaded: LoadedImage, found: Faces, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object of one image: pixels to two digits, scores to five."""
    record: dict[str, Any] = {"image": loaded.path}
    if loaded.frame is not None:
        record |= {"frame": loaded.frame, "time_s": round(loaded.time_s or 0.0, 3)}
    record |= {"width": loaded.image.shape[1], "height": loaded.image.shape[0]}
    return record | {"faces": to_plain(found, classes)}


def to_plain(found: Faces, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the faces as plain values: bbox, score, kps if any, class if there are several."""
    faces: list[dict[str, Any]] = []
    for index, (*bbox, score) in enumerate(found.bboxes.tolist()):
        face: dict[str, Any] = {"bbox": [round(v, 2) for v in bbox], "score": round(score, 5)}
        if found.kps is not None:
            face["kps"] = [[round(x, 2), round(y, 2)] for x, y in found.kps[index].tolist()]
        if len(classes) > 1:
            face["class"] = classes[int(found.labels[index])]
        faces.append(face)
    return faces
