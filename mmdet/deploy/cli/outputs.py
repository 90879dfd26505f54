"""The names of the files that a run writes, known before it begins, and what must not be overwritten."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

from mmdet.deploy.cli.inputs import Inputs
from mmdet.deploy.runtime.checks import check_count
from mmdet.errors import ConfigError, DataError, unknown_name
from mmdet.files import check_outputs

NUMBER = re.compile(r"_\d+(?=\.[a-z]+$)")  # of a face, or a frame
RESULTS = "detections.jsonl"
MAX_ALIGN = 4096  # pixels
FORMATS = ("json", "txt", "widerface")


@dataclass(frozen=True)
class Products:
    """What is made of the faces.

    Attributes:
        file_format: see `writers.Writer`.
        draw: also images, or videos, with the faces drawn in.
        blur: these with the faces made unrecognisable.
        crop: also every face alone.
        align: also every face upright in a square of this many pixels, for a recognition network; 0: none.
    """

    file_format: str = "json"
    draw: bool = False
    blur: bool = False
    crop: bool = False
    align: int = 0

    def __post_init__(self) -> None:
        """Refuse an unknown format and a size that none has."""
        if self.file_format not in FORMATS:
            raise ConfigError(unknown_name("--format", self.file_format, FORMATS))
        check_count("--align", self.align, highest=MAX_ALIGN)

    @property
    def has_images(self) -> bool:
        """Return whether the inputs are written again, changed."""
        return self.draw or self.blur

    def need_folder(self) -> str:
        """Return the first of the options that write files; "" if none does."""
        flags = {"--draw": self.draw, "--blur": self.blur, "--crop": self.crop, "--align": self.align}
        flags[f"--format {self.file_format}"] = self.file_format != "json"
        return next((name for name, is_on in flags.items() if is_on), "")


@dataclass(frozen=True)
class OutputFiles:
    """Where the results of a run go.

    Attributes:
        out: folder.
        products: what is made.
        titles: name of a video -> what its files are called: its name without suffix, if no other has that.
    """

    out: Path
    products: Products
    titles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, out: Path, products: Products, found: Inputs) -> "OutputFiles":
        """Name the results of these inputs."""
        names = [source.name for source in found.videos]
        stems = [os.path.splitext(name)[0] for name in names]
        count = Counter(stems)
        titles = {n: (s if count[s] == 1 else n) for n, s in zip(names, stems, strict=True)}
        return cls(out, products, titles)

    def text(self, name: str, frame: int | None) -> Path:
        """Return the .txt file of an image or a frame."""
        if self.products.file_format == "widerface":
            event, title = self.widerface(name, frame)
            return self.out / event / f"{title}.txt"
        return self.out / f"{_title(name, frame)}.txt"

    def face(self, kind: str, name: str, frame: int | None, index: int) -> Path:
        """Return the file of one face alone; kind: "crops" or "aligned"."""
        return self.out / kind / f"{_title(name, frame)}_{index}.jpg"

    def widerface(self, name: str, frame: int | None) -> tuple[str, str]:
        """Return the event and the name of an image or a frame in the WIDER FACE protocol."""
        from mmdet.evaluation.widerface.files import split_name  # scipy, for this format only

        if frame is None:
            return split_name(Path(name).as_posix())
        event, title = split_name(Path(self.titles.get(name, name)).as_posix() + ".")
        return event, f"{title}_{frame:06d}"

    def drawn(self, name: str, is_frame: bool) -> Path:
        """Return the image or the video with the faces drawn in, or blurred."""
        if is_frame:
            return self.out / f"{self.titles.get(name, name).replace(' ', '_')}_faces.mp4"
        return self.out / (name if Path(name).suffix.lower() in (".jpg", ".jpeg") else f"{name}.jpg")

    def check(self, found: Inputs, overwrite: bool) -> None:
        """Refuse, before anything is written, to overwrite an input, another result or an existing file.

        Raises:
            ConfigError: an input has a result's name, or a file has and `overwrite` is False.
            DataError: two inputs have the same result.
        """
        sources: dict[Path, str] = {}
        for source, path in self._planned(found):
            other = sources.setdefault(path, source)
            if other != source:
                raise DataError(f"{other} and {source} would both give {path}; rename one, or run them apart")
        inputs = [source.path for source in found.files + found.videos if isinstance(source.path, str)]
        check_outputs(sources, inputs, overwrite)

    def _planned(self, found: Inputs) -> Iterator[tuple[str, Path]]:
        """Yield (input, file); of a row of numbered files the first, and those that exist."""
        if self.products.file_format == "json":
            yield "all", self.out / RESULTS
        rows = cache(_numbered_files)  # of thousands of images in one folder
        sources = [*((file, None) for file in found.files), *((video, 0) for video in found.videos)]
        for source, frame in sources:
            name = source.name
            single = [self.drawn(name, frame is not None)] if self.products.has_images else []
            kinds = (("crops", self.products.crop), ("aligned", self.products.align))
            first = [self.face(kind, name, frame, 0) for kind, is_on in kinds if is_on]
            if self.products.file_format != "json":
                (single if frame is None else first).append(self.text(name, frame))
            existing = [rows(one.parent).get(NUMBER.sub("", one.name), []) for one in first]
            for path in chain(single, first, *existing):
                yield source.label, path


def _numbered_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files whose names end in the number of a face or a frame, by their names without it."""
    rows: dict[str, list[Path]] = {}
    for path in folder.glob("*"):
        if NUMBER.search(path.name):
            rows.setdefault(NUMBER.sub("", path.name), []).append(path)
    return rows


def _title(name: str, frame: int | None) -> str:
    return name if frame is None else f"{name}_{frame:06d}"
