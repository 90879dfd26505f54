"""Where the results of a run go: JSON lines, text files, WIDER FACE files, pictures, videos."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from mmdet.deploy.cli.draw import draw_faces
from mmdet.deploy.cli.inputs import DRAWN, Picture, is_utf8
from mmdet.deploy.cli.outputs import RESULTS, Outputs
from mmdet.deploy.runtime.decode import Faces
from mmdet.errors import DataError

FORMATS = ("json", "txt", "widerface")
FREE_BOX = (len(DRAWN) + 8).to_bytes(4, "big") + b"free" + DRAWN  # at the end of an mp4; players pass over it


class Writer:
    """Takes one picture after the other; a context manager, so that files are closed.

    Nothing is written before the first picture comes. One file for many pictures, detections.jsonl or a
    video, is NAME.part.SUFFIX until it is complete, so that it never replaces an earlier one half done.

    Args:
        outputs: the names of the files; None: JSON lines on standard output, and nothing else. Formats:
            "json": one detections.jsonl; "txt": NAME.txt per picture with a line
            "x1 y1 x2 y2 score [x y ...]" per face; "widerface": EVENT/NAME.txt as its evaluation reads.
        classes: names.

    Attributes:
        source: the video or the camera that is read.
        rate: frames per second of the video to be drawn.
        is_complete: whether closing gives detections.jsonl and the video their names.
    """

    def __init__(self, outputs: Outputs | None, classes: tuple[str, ...]) -> None:
        self.outputs, self.classes = outputs, classes
        file_format = "json" if outputs is None else outputs.file_format
        self.write_one: Callable[[Picture, Faces], None] = getattr(self, f"_write_{file_format}")
        self.stream: TextIO | None = sys.stdout if outputs is None else None
        self.video: tuple[str, Path, cv2.VideoWriter] | None = None
        self.source: str | int | None = None
        self.rate = 25.0
        self.is_complete = True

    def __enter__(self) -> "Writer":
        """Return self."""
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Close what is open."""
        self.is_complete = self.is_complete and kind is None
        if self.stream is not None and self.stream is not sys.stdout:
            self.stream.close()
            if self.is_complete:
                Path(self.stream.name).replace(self._outputs.out / RESULTS)
        self._close_video()

    @property
    def _outputs(self) -> Outputs:
        assert self.outputs is not None
        return self.outputs

    @property
    def parts(self) -> list[Path]:
        """Return the files that are not complete yet."""
        parts = [Path(self.stream.name)] if self.stream not in (None, sys.stdout) else []
        return parts + ([_part(self.video[1])] if self.video is not None else [])

    def add(self, picture: Picture, found: Faces) -> None:
        """Write the faces of one picture.

        Raises:
            DataError: a file cannot be written.
        """
        try:
            self.write_one(picture, found)
            if self.outputs is not None and self.outputs.draw:
                drawn = draw_faces(picture.image, found, self.classes)
                if picture.frame is None:
                    self._write_picture(picture, drawn)
                else:
                    self._write_frame(picture, drawn)
        except BrokenPipeError:  # `| head` has read enough: run_cli's business
            raise
        except OSError as error:
            raise DataError(
                f"{error.filename or self._outputs.out}: cannot be written ({error.strerror or error})"
            ) from None

    def _write_json(self, picture: Picture, found: Faces) -> None:
        if self.stream is None:
            self.stream = open(_create_folder(_part(self._outputs.out / RESULTS)), "w", encoding="utf-8")
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
        path = _create_folder(self._outputs.text(picture.name, picture.frame))
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _write_widerface(self, picture: Picture, found: Faces) -> None:
        from mmdet.evaluation.widerface.files import write_predictions  # scipy, for this format only

        event, name = self._outputs.widerface(picture.name, picture.frame)
        rows = found.bboxes[found.labels == 0].copy()
        rows[:, 2:4] -= rows[:, :2]
        write_predictions({event: {name: rows}}, self._outputs.out)

    def _write_picture(self, picture: Picture, drawn: np.ndarray) -> None:
        path = _create_folder(self._outputs.drawn(picture.name, is_frame=False))
        jpeg = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        path.write_bytes(mark_jpeg(jpeg))

    def _write_frame(self, picture: Picture, drawn: np.ndarray) -> None:
        if self.video is None or self.video[0] != picture.name:
            self._close_video()
            path = self._outputs.drawn(picture.name, is_frame=True)
            part = str(_create_folder(_part(path)))
            if not is_utf8(part):
                raise DataError(f"{part!r}: a video's name must be valid UTF-8; rename the folder")
            writer = cv2.VideoWriter(part, cv2.VideoWriter_fourcc(*"mp4v"), self.rate, drawn.shape[1::-1])
            if not writer.isOpened():
                raise DataError(f"{path}: this OpenCV cannot write mp4 video; run without --draw")
            self.video = (picture.name, path, writer)
        self.video[2].write(drawn)

    def _close_video(self) -> None:
        if self.video is not None:
            _, path, writer = self.video
            self.video = None
            writer.release()
            with _part(path).open("ab") as file:
                file.write(FREE_BOX)
            if self.is_complete:
                _part(path).replace(path)


def mark_jpeg(data: bytes) -> bytes:
    """Return a JPEG with a comment that it was drawn, after its JFIF header."""
    end = 4 + int.from_bytes(data[4:6], "big") if data[2:4] == b"\xff\xe0" else 2  # the length counts itself
    return data[:end] + b"\xff\xfe" + (len(DRAWN) + 2).to_bytes(2, "big") + DRAWN + data[end:]


def _part(path: Path) -> Path:
    """Return the name that a file has until it is complete; the suffix stays, for OpenCV."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def _create_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


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
