"""Guess the format of a label file from its first kilobytes, for error messages."""

import re
from pathlib import Path

_READ = 1 << 16
_KEYS = (  # first characters of the content -> words inside -> format
    ("{", '"annotations"', "coco"),
    ("{", '"shapes"', "labelme"),
    ("[", '"file_name"', "ternaus-json"),
    ("<", "<annotations>", "cvat"),
    ("<", "<annotation>", "voc"),
)
_FOLDERS = (("*.xml", "voc"), ("*.json", "labelme"), ("*.txt", "yolo"))
_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"


def guess_format(path: str | Path) -> str | None:
    """Return a name of LABEL_READERS, None if the file or folder looks like none of them."""
    path = Path(path)
    if path.is_dir():
        return next((name for pattern, name in _FOLDERS if any(path.rglob(pattern))), None)
    try:
        with open(path, "rb") as file:
            text = file.read(_READ).decode("utf-8-sig", errors="replace").lstrip()
    except OSError:
        return None
    for start, word, name in _KEYS:
        if text.startswith(start) and word in text:
            return name
    lines = text.splitlines() or [""]
    if lines[0].startswith("#"):
        has_size = re.fullmatch(r"#.*\s\d+\s+\d+\s*", lines[0]) or re.match(
            r"#\s*\S+\s+\d+\s+\d+\b", lines[0]
        )
        return "labelv2" if has_size else "retinaface-txt"
    if len(lines) > 1 and re.search(r"\.\w+\s*$", lines[0]) and lines[1].strip().isdecimal():
        return "wider-txt"
    if re.fullmatch(rf"\d+(?:\s+{_NUMBER}){{4,}}\s*", lines[0]):
        return "yolo"
    return "csv" if lines[0].count(",") >= 4 else None
