"""Where the results of a run go: JSON lines, text files, WIDER FACE files, pictures, videos."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from mmdet.deploy.decode import Faces
from mmdet.deploy.draw import draw_faces
from mmdet.deploy.inputs import Picture
from mmdet.errors import DataError

FORMATS = ("json", "txt", "widerface")
RESULTS = "detections.jsonl"


class Writer:
    """Takes one picture after the other; a context manager, so that files are closed.

    Args:
        out: folder; None: JSON lines on standard output, and nothing else.
        file_format: "json": one detections.jsonl; "txt": NAME.txt per picture with a line
            "x1 y1 x2 y2 score [x y ...]" per face; "widerface": EVENT/NAME.txt as its evaluation reads.
        draw: also write pictures, or videos, with the faces drawn in.
        classes: names.
    """

    def __init__(self, out: Path | None, file_format: str, draw: bool, classes: tuple[str, ...]) -> None:
        self.out, self.draw, self.classes = out, draw, classes
        self.write_one: Callable[[Picture, Faces], None] = getattr(self, f"_write_{file_format}")
        self.stream: TextIO | None = None
        self.video: tuple[str, cv2.VideoWriter] | None = None
        self.rate = 25.0
        try:
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
            if file_format == "json":
                self.stream = sys.stdout if out is None else open(out / RESULTS, "w", encoding="utf-8")
        except OSError as error:
            raise DataError(f"{out}: cannot be written ({error.strerror or error})") from None

    def __enter__(self) -> "Writer":
        """Return self."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close what is open."""
        if self.stream is not None and self.stream is not sys.stdout:
            self.stream.close()
        self._close_video()

    def add(self, picture: Picture, found: Faces) -> None:
        """Write the faces of one picture.

        Raises:
            DataError: a file cannot be written.
        """
        try:
            self.write_one(picture, found)
            if self.draw:
                drawn = draw_faces(picture.image, found, self.classes)
                if picture.frame is None:
                    self._write_picture(picture, drawn)
                else:
                    self._write_frame(picture, drawn)
        except BrokenPipeError:  # `| head` has read enough: run_cli's business
            raise
        except OSError as error:
            raise DataError(
                f"{error.filename or self.out}: cannot be written ({error.strerror or error})"
            ) from None

    def _write_json(self, picture: Picture, found: Faces) -> None:
        assert self.stream is not None
        self.stream.write(json.dumps(to_record(picture, found, self.classes)) + "\n")
        self.stream.flush()

    def _write_txt(self, picture: Picture, found: Faces) -> None:
        rows = found.bboxes.tolist()
        points = (
            [[]] * len(found)
            if found.kps is None
            else found.kps.reshape(len(found), 2 * found.kps.shape[1]).tolist()
        )
        lines = [
            " ".join([*(f"{v:.2f}" for v in bbox), f"{score:.5f}", *(f"{v:.2f}" for v in kps)])
            for (*bbox, score), kps in zip(rows, points, strict=True)
        ]
        path = self._path(picture, ".txt")
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _write_widerface(self, picture: Picture, found: Faces) -> None:
        from mmdet.evaluation.wider_files import split_name, write_predictions  # scipy, for this format only

        assert self.out is not None
        event, name = split_name(Path(picture.name).as_posix())
        rows = found.bboxes[found.labels == 0].copy()
        rows[:, 2:4] -= rows[:, :2]
        write_predictions(
            {event: {name if picture.frame is None else f"{name}_{picture.frame:06d}": rows}}, self.out
        )

    def _write_picture(self, picture: Picture, drawn: np.ndarray) -> None:
        path = self._path(picture, "" if Path(picture.name).suffix.lower() in (".jpg", ".jpeg") else ".jpg")
        path.write_bytes(cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())

    def _write_frame(self, picture: Picture, drawn: np.ndarray) -> None:
        if self.video is None or self.video[0] != picture.path:
            self._close_video()
            assert self.out is not None
            path = self.out / f"{Path(picture.name).stem.replace(' ', '_')}_faces.mp4"
            size = drawn.shape[1::-1]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), self.rate, size)
            if not writer.isOpened():
                raise DataError(f"{path}: this OpenCV cannot write mp4 video; run without --draw")
            self.video = (picture.path, writer)
        self.video[1].write(drawn)

    def _path(self, picture: Picture, suffix: str) -> Path:
        assert self.out is not None
        frame = "" if picture.frame is None else f"_{picture.frame:06d}"
        path = self.out / f"{picture.name}{frame}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _close_video(self) -> None:
        if self.video is not None:
            self.video[1].release()
            self.video = None


def to_record(picture: Picture, found: Faces, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object of one picture: pixels to two digits, scores to five."""
    record: dict[str, Any] = {"image": picture.path}
    if picture.frame is not None:
        record |= {"frame": picture.frame, "time_s": round(picture.time_s or 0.0, 3)}
    record |= {"width": picture.image.shape[1], "height": picture.image.shape[0]}
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
