"""Search validation: a fixed part of the training images that candidates are compared on.

The papers choose by AP on WIDER val and report that same figure. Images are assigned by a hash of their
name, so that every study, machine and run keeps out the same ones.
"""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from mmdet.datasets.labels import read_labels
from mmdet.datasets.labels.labelv2 import labelv2_lines
from mmdet.errors import DataError
from mmdet.evaluation.widerface.mat import write_wider_gt
from mmdet.files import write_text

PER_MILLE = 1000


@dataclass(frozen=True)
class Split:
    """The two label files, the ground truth made of the second, and the images' folder."""

    train: Path
    val: Path
    gt_dir: Path
    img_prefix: str

    def options(self) -> list[str]:
        """Return --cfg-options that train on one part and evaluate on the other."""
        parts = [f"data.train.ann_file={self.train}", f"evaluation.gt_dir={self.gt_dir}"]
        for name in ("val", "test"):
            parts += [f"data.{name}.ann_file={self.val}", f"data.{name}.img_prefix={self.img_prefix}"]
        return parts


def make_split(ann_file: str, img_prefix: str, share: float, out: Path) -> Split:
    """Write train.txt, val.txt and gt/*.mat into `out`, unless they are there.

    Args:
        ann_file: labelv2 file of the training images.
        img_prefix: their folder.
        share: of the images to keep out.
        out: folder.

    Raises:
        DataError: one part would be empty.
    """
    split = Split(out / "train.txt", out / "val.txt", out / "gt", str(Path(img_prefix).resolve()))
    if (split.gt_dir / "wider_face_val.mat").exists():
        return split
    parts: dict[bool, list[str]] = {True: [], False: []}
    for record in read_labels(ann_file, train=True):
        is_val = crc32(record.name.encode()) % PER_MILLE < share * PER_MILLE
        parts[is_val] += labelv2_lines(record)
    if not parts[True] or not parts[False]:
        raise DataError(f"{ann_file}: {share:.1%} of its images leave one part empty")
    for path, lines in ((split.train, parts[False]), (split.val, parts[True])):
        write_text(path, "\n".join([*lines, ""]), parents=True)
    write_wider_gt(split.val, split.gt_dir)
    return split
