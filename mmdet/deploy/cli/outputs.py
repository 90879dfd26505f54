"""The names of the files that a run writes, known before it begins, and what must not be overwritten."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmdet.deploy.cli.inputs import Inputs, is_drawn, video_label
from mmdet.errors import ConfigError, DataError

RESULTS = "detections.jsonl"
_OURS = {
    "json": re.compile(rb'\{"image": '),
    "txt": re.compile(rb"(-?\d+\.\d\d ){4}\d\.\d{5}[ \n]"),
    "widerface": re.compile(rb"[^\n]*\.jpg\n\d+\n"),
}


@dataclass(frozen=True)
class Outputs:
    """Where the results of a run go.

    Attributes:
        out: folder.
        file_format: see `writers.Writer`.
        draw: also write pictures, or videos, with the faces drawn in.
        titles: name of a video -> what its files are called: its name without suffix, if no other has that.
    """

    out: Path
    file_format: str
    draw: bool
    titles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, out: Path, file_format: str, draw: bool, found: Inputs) -> "Outputs":
        """Name the results of these inputs."""
        names = list(found.video_names.values())
        stems = [os.path.splitext(name)[0] for name in names]
        count = Counter(stems)
        titles = {n: (s if count[s] == 1 else n) for n, s in zip(names, stems, strict=True)}
        return cls(out, file_format, draw, titles)

    def text(self, name: str, frame: int | None) -> Path:
        """Return the .txt file of a picture or a frame."""
        return self.out / f"{name}{'' if frame is None else f'_{frame:06d}'}.txt"

    def widerface(self, name: str, frame: int | None) -> tuple[str, str]:
        """Return the event and the name of a picture or a frame in the WIDER FACE protocol."""
        from mmdet.evaluation.widerface.files import split_name  # scipy, for this format only

        if frame is None:
            return split_name(Path(name).as_posix())
        event, title = split_name(Path(self.titles.get(name, name)).as_posix() + ".")
        return event, f"{title}_{frame:06d}"

    def drawn(self, name: str, is_frame: bool) -> Path:
        """Return the picture or the video with the faces drawn in."""
        if is_frame:
            return self.out / f"{self.titles.get(name, name).replace(' ', '_')}_faces.mp4"
        return self.out / (name if Path(name).suffix.lower() in (".jpg", ".jpeg") else f"{name}.jpg")

    def check(self, found: Inputs) -> None:
        """Refuse, before anything is written, to overwrite an input, another result or a foreign file.

        Raises:
            ConfigError: an input, or a file that is not a result of an earlier run, has a result's name.
            DataError: two inputs have the same result.
        """
        inputs = [str(path) for path, _ in found.files] + [v for v in found.videos if isinstance(v, str)]
        known = {key: path for path in inputs if (key := _key(path)) is not None}
        sources: dict[Path, str] = {}
        for source, path, kind in self._planned(found):
            other = sources.setdefault(path, source)
            if other != source:
                raise DataError(f"{other} and {source} would both give {path}; rename one, or run them apart")
            key = _key(path)
            if key is None:
                continue
            if key in known:
                raise ConfigError(
                    f"{path} would overwrite the input {known[key]}; give another folder to --out"
                )
            if path.is_file() and not _is_ours(path, kind):
                raise ConfigError(
                    f"{path} is there and no result of an earlier run; give another folder to --out"
                )

    def _planned(self, found: Inputs) -> Iterator[tuple[str, Path, str]]:
        """Yield (input, file, kind); of a video's text files the first."""
        if self.file_format == "json":
            yield "all", self.out / RESULTS, "json"
        pictures: list[tuple[str, str, int | None]] = [(str(path), name, None) for path, name in found.files]
        for source, name, frame in pictures + [(video_label(v), n, 0) for v, n in found.video_names.items()]:
            if self.file_format == "txt":
                yield source, self.text(name, frame), "txt"
            elif self.file_format == "widerface":
                event, title = self.widerface(name, frame)
                yield source, self.out / event / f"{title}.txt", "widerface"
            if self.draw:
                yield source, self.drawn(name, frame is not None), "draw"


def _key(path: str | Path) -> tuple[int, int] | None:
    """Return what identifies a file under all its names; None if it does not exist."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _is_ours(path: Path, kind: str) -> bool:
    if kind == "draw":
        return is_drawn(path)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return True  # the error comes when it is written
    return not head or _OURS[kind].match(head) is not None
