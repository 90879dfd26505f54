"""What a label file looks like: sizes, counts, shapes and places of its faces."""

from dataclasses import dataclass

import numpy as np

from mmdet.datasets.labels import LabelFile

NETWORK_SIDE = 640
_SHARES = (1, 10, 25, 50, 75, 90, 99)


@dataclass(frozen=True)
class Statistics:
    """Numbers per face or image; ignore boxes are left out.

    Attributes:
        faces_per_image: (N,).
        side_px: (F,) root of the box area, in pixels of the file.
        network_px: (F,) the same once the image is fitted into 640 x 640.
        aspect: (F,) width / height of boxes with a size.
        center_xy: (F, 2) centre of the box as a share of the image's sides.
        share_with_kps: of the faces.
        per_class: faces of each class.
    """

    faces_per_image: np.ndarray
    side_px: np.ndarray
    network_px: np.ndarray
    aspect: np.ndarray
    center_xy: np.ndarray
    share_with_kps: float
    per_class: dict[str, int]

    def summary(self) -> dict[str, object]:
        """Return counts, and percentiles 1, 10, 25, 50, 75, 90, 99."""
        rows = {"faces_per_image": self.faces_per_image, "side_px": self.side_px}
        rows |= {"side_at_640_px": self.network_px, "aspect": self.aspect}
        return {
            "images": len(self.faces_per_image),
            "images_without_faces": int((self.faces_per_image == 0).sum()),
            "faces": len(self.side_px),
            "share_with_points": round(self.share_with_kps, 4),
            "share_under_8_px_at_640": round(
                float((self.network_px < 8).mean()) if len(self.network_px) else 0, 4
            ),
            "per_class": self.per_class,
            "percentiles": {name: _percentiles(values) for name, values in rows.items()},
        }


def measure(labels: LabelFile) -> Statistics:
    """Return the statistics of a label file; images of unknown size do not count where a size is needed."""
    image = np.repeat(np.arange(len(labels)), np.diff(labels.offsets))
    is_face = ~labels.is_ignored
    image, bboxes = image[is_face], labels.bboxes[is_face].astype(np.float64)
    wh = bboxes[:, 2:] - bboxes[:, :2]
    size_wh = labels.sizes_hw[:, ::-1].astype(np.float64)[image]
    is_known = (size_wh > 0).all(1)
    side = np.sqrt(wh.prod(1))
    scale = NETWORK_SIDE / size_wh.max(1, initial=1, where=is_known[:, None])
    has_kps = (labels.kps[is_face][..., 2] > 0).any(1)
    counts = np.bincount(labels.labels[is_face], minlength=len(labels.classes))
    return Statistics(
        faces_per_image=np.bincount(image, minlength=len(labels)),
        side_px=side,
        network_px=(side * scale)[is_known],
        aspect=wh[wh[:, 1] > 0, 0] / wh[wh[:, 1] > 0, 1],
        center_xy=((bboxes[:, :2] + bboxes[:, 2:]) / 2)[is_known] / size_wh[is_known],
        share_with_kps=float(has_kps.mean()) if len(has_kps) else 0.0,
        per_class=dict(zip(labels.classes, counts.tolist(), strict=True)),
    )


def _percentiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.percentile(values, _SHARES).round(2).tolist()
    return {str(share): value for share, value in zip(_SHARES, found, strict=True)}
