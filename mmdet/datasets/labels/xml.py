"""The XML formats: Pascal VOC (one file per image) and "CVAT for images 1.1" (one file for all).

VOC: object/bndbox with xmin, ymin, xmax, ymax, taken as written (the original counts from 1); difficult=1
becomes an ignore box. CVAT: <box> and, for keypoints, <points> of the same group_id.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from mmdet.datasets.labels.base import (
    DEFAULT_NUM_KPS,
    ClassIndex,
    LabelFile,
    LabelledFace,
    join_records,
    make_record,
)
from mmdet.datasets.labels.labelv2 import number
from mmdet.datasets.labels.text import read_text, read_utf8
from mmdet.errors import DataError
from mmdet.files import write_text


def read_voc(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a folder of Pascal VOC files, searched in depth; the image lies at the same place, see <filename>.

    Args:
        path: the folder.
        train: not read; the format is the same for training and test.
        classes: object names to take; None: all, in order of appearance.
        num_kps: K of the result; the format has no points.

    Raises:
        DataError: no XML file, or one that is no VOC file.
    """
    root, index, lost, records = Path(path), ClassIndex(classes), Counter[str](), []
    for file in _files(root, "xml"):
        tree = _parse(file, "annotation")
        name = (file.parent.relative_to(root) / (tree.findtext("filename") or "").strip()).as_posix()
        if not (tree.findtext("filename") or "").strip():
            raise DataError(f"{file}: <filename> is missing")
        faces = []
        for one in tree.iter("object"):
            label = index.get((one.findtext("name") or "face").strip())
            bbox = [
                _number(one.findtext(f"bndbox/{key}"), f"{file}: {key}")
                for key in ("xmin", "ymin", "xmax", "ymax")
            ]
            if label is not None:
                faces.append(
                    LabelledFace(bbox, label, None, (one.findtext("difficult") or "0").strip() == "1")
                )
        lost["parts of objects"] += sum(1 for _ in tree.iter("part"))
        size_hw = _size(tree.findtext("size/height"), tree.findtext("size/width"))
        records.append(make_record(name, faces, num_kps, size_hw, str(file)))
    lost["objects of other classes"] = index.unknown
    return join_records(records, num_kps, index.names or ["face"], +lost)


def write_voc(labels: LabelFile, path: str | Path) -> None:
    """Write path/NAME.xml per image; ignore boxes are marked difficult.

    Raises:
        WriteError: a file cannot be written.
    """
    for record in labels:
        root = ET.Element("annotation")
        ET.SubElement(root, "filename").text = Path(record.name).name
        size = ET.SubElement(root, "size")
        for key, side in zip(("width", "height"), (record.size_hw or (0, 0))[::-1], strict=True):
            ET.SubElement(size, key).text = str(side)
        ET.SubElement(size, "depth").text = "3"
        shown = [(bbox, labels.classes[k], "0") for bbox, k in zip(record.bboxes, record.labels, strict=True)]
        for bbox, name, difficult in [*shown, *((b, labels.classes[0], "1") for b in record.bboxes_ignore)]:
            one = ET.SubElement(root, "object")
            ET.SubElement(one, "name").text = name
            ET.SubElement(one, "difficult").text = difficult
            box = ET.SubElement(one, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), bbox, strict=True):
                ET.SubElement(box, key).text = number(value)
        ET.indent(root)
        text = ET.tostring(root, encoding="unicode") + "\n"
        write_text(Path(path) / Path(record.name).with_suffix(".xml"), text, parents=True)


def read_cvat(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a "CVAT for images 1.1" file; shapes other than boxes and grouped points are counted.

    Args:
        path: the file.
        train: not read; the format is the same for training and test.
        classes: labels to take; None: all, in order of appearance.
        num_kps: points of a <points> shape that belongs to a box.

    Raises:
        DataError: the file is missing, is no such XML, or has a bad number.
    """
    index, lost, records = ClassIndex(classes), Counter[str](), []
    tree = _parse(path, "annotations")
    if tree.find("track") is not None:
        raise DataError(f"{path}: CVAT for video (<track>); export it as 'CVAT for images 1.1'")
    for image in tree.iter("image"):
        where = f"{path}: image {image.get('name')!r}"
        kps = {
            one.get("group_id"): one.get("points", "") for one in image.iter("points") if one.get("group_id")
        }
        faces = []
        for box in image.iter("box"):
            label = index.get(box.get("label", "face"))
            bbox = [_number(box.get(key), f"{where}: {key}") for key in ("xtl", "ytl", "xbr", "ybr")]
            if label is not None:
                is_ignored = any((a.get("name"), (a.text or "").strip()) == ("ignore", "true") for a in box)
                points = _points(kps.pop(box.get("group_id"), ""), num_kps, where)
                faces.append(LabelledFace(bbox, label, points, is_ignored))
        lost["points without a box"] += len(kps)
        lost["polygons and other shapes"] += sum(one.tag not in ("box", "points") for one in image)
        name = image.get("name")
        if not name:
            raise DataError(f"{where}: an image has no name")
        size_hw = _size(image.get("height"), image.get("width"))
        records.append(make_record(name, faces, num_kps, size_hw, where))
    lost["boxes of other classes"] = index.unknown
    return join_records(records, num_kps, index.names or ["face"], +lost)


def write_cvat(labels: LabelFile, path: str | Path) -> None:
    """Write labels in this format; ignore boxes carry the attribute ignore=true.

    Raises:
        WriteError: the file cannot be written.
    """
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>"]
    group = 0
    for place, record in enumerate(labels):
        height, width = record.size_hw or (0, 0)
        lines.append(f'<image id="{place}" name={quoteattr(record.name)} width="{width}" height="{height}">')
        for bbox, label, kps in zip(record.bboxes, record.labels, record.kps, strict=True):
            group += 1
            lines.append(f"{_box(bbox, labels.classes[label], group)}</box>")
            if (kps[:, 2] > 0).all() and len(kps):
                points = ";".join(f"{number(x)},{number(y)}" for x, y in kps[:, :2])
                lines.append(f'<points label="kps" group_id="{group}" points="{points}"></points>')
        for bbox in record.bboxes_ignore:
            lines.append(f'{_box(bbox, labels.classes[0], 0)}<attribute name="ignore">true</attribute></box>')
        lines.append("</image>")
    write_text(path, "\n".join([*lines, "</annotations>"]) + "\n")


def _box(bbox: np.ndarray, label: str, group: int) -> str:
    corners = " ".join(
        f'{key}="{number(v)}"' for key, v in zip(("xtl", "ytl", "xbr", "ybr"), bbox, strict=True)
    )
    return f'<box label={quoteattr(label)} {corners} group_id="{group}">'


def _files(root: Path, suffix: str) -> list[Path]:
    files = sorted(root.rglob(f"*.{suffix}")) if root.is_dir() else []
    if not files:
        raise DataError(f"{root}: no folder with .{suffix} files")
    return files


def _parse(path: str | Path, tag: str) -> ET.Element:
    """Return the root of an XML file; a document type, which could blow entities up, is refused."""
    text = _decode(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: holds a document type; remove it")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise DataError(f"{path}: not XML ({error})") from None
    if root.tag != tag:
        raise DataError(f"{path}: expected <{tag}>, got <{root.tag}>")
    return root


def _decode(path: str | Path) -> str:
    """Return the text of an XML file; what it says of its encoding counts where it is no UTF-8."""
    data = read_utf8(path)
    said = re.match(rb"\s*<\?xml[^>]*?encoding=[\"']([\w.-]+)", data)
    for encoding in ("utf-8", said[1].decode() if said else "utf-8"):
        with suppress(LookupError, UnicodeError):
            return data.decode(encoding)
    return read_text(path)  # which names the line


def _number(text: str | None, where: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{where}: expected a number, got {text!r}") from None


def _size(height: str | None, width: str | None) -> tuple[int, int] | None:
    sides = [
        int(text) if text and text.strip().isdecimal() and len(text) < 10 else 0 for text in (height, width)
    ]
    return (sides[0], sides[1]) if min(sides) > 0 else None


def _points(text: str, num_kps: int, where: str) -> np.ndarray | None:
    """Return (K, 3) of "x,y;x,y;...", None of ""."""
    if not text:
        return None
    points = [[_number(word, f"{where}: points") for word in pair.split(",")] for pair in text.split(";")]
    if len(points) != num_kps or any(len(point) != 2 for point in points):
        raise DataError(f"{where}: {len(points)} points, expected {num_kps}; set num_kps (--num-kps)")
    return np.array([[*point, 1] for point in points])
