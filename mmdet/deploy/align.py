"""What comes after boxes: faces cut out, turned upright for a recognition network, or made unrecognisable.

found = detector.predict([image])[0]
faces = align_faces(image, found.kps)              # (n, 112, 112, 3), ready for an ArcFace network
public = blur_faces(image, found.bboxes)
"""

import cv2
import numpy as np

from mmdet.errors import DataError

# Where recognition networks of the ArcFace family (Deng et al., arXiv:1801.07698) expect eyes, nose and mouth
# corners in 112 x 112 pixels.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    np.float64,
)
TEMPLATE_SIZE = 112
BLOCKS = 8  # a blurred face is this many blocks wide


def align_faces(image: np.ndarray, kps: np.ndarray | None, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Return the faces turned, scaled and moved so that their points come nearest to TEMPLATE.

    Args:
        image: (H, W, 3) uint8; what lies outside is black.
        kps: (n, 5, 2) pixels: eyes, nose, corners of the mouth, as detectors of this package give them.
        size: width and height of a crop. Multiples of 128 have a margin at the sides, as in insightface's
            norm_crop; all others scale the template.

    Returns:
        (n, size, size, 3) uint8.

    Raises:
        DataError: there are no five points per face.
    """
    if kps is None or kps.shape[1:] != (5, 2):
        shape = "none" if kps is None else kps.shape
        raise DataError(f"keypoints: {shape}; aligning needs a model with five points per face, (n, 5, 2)")
    faces = np.empty((len(kps), size, size, 3), np.uint8)
    for matrix, face in zip(estimate_similarity(kps, template_of(size)), faces, strict=True):
        cv2.warpAffine(image, matrix, (size, size), dst=face, borderValue=0)
    return faces


def template_of(size: int) -> np.ndarray:
    """Return the (5, 2) points of a crop of `size` x `size` pixels."""
    if size % 128 == 0 and size % TEMPLATE_SIZE:
        return (TEMPLATE + [8.0, 0.0]) * (size / 128)
    return TEMPLATE * (size / TEMPLATE_SIZE)


def estimate_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the rotations, scales and shifts that map points nearest to others (Umeyama 1991).

    In the plane, with a point as a complex number z, this is the linear regression w = a z + b.

    Args:
        source: (n, K, 2).
        target: (K, 2).

    Returns:
        (n, 2, 3) float64 affine matrices. Points that all coincide are only moved.
    """
    z = np.asarray(source, np.float64) @ [1, 1j]  # (n, K)
    w = np.asarray(target, np.float64) @ [1, 1j]
    z_mean, w_mean = z.mean(axis=1, keepdims=True), w.mean()
    spread = (np.abs(z - z_mean) ** 2).sum(axis=1)
    covariance = ((z - z_mean).conj() * (w - w_mean)).sum(axis=1)
    a = np.divide(covariance, spread, out=np.ones_like(covariance), where=spread > 0)
    b = w_mean - a * z_mean[:, 0]
    rows = np.stack([a.real, -a.imag, b.real, a.imag, a.real, b.imag], axis=1)
    return rows.reshape(-1, 2, 3)


def clip_bboxes(bboxes: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Return (n, 4 or 5) boxes cut at the image's border."""
    height, width = image_hw
    clipped = bboxes.copy()
    clipped[:, :4] = clipped[:, :4].clip(0, [width, height, width, height])
    return clipped


def crop_faces(image: np.ndarray, bboxes: np.ndarray, margin: float = 0.0) -> list[np.ndarray]:
    """Return views of the faces in an image, (h, w, 3) each, at least one pixel.

    Args:
        image: (H, W, 3).
        bboxes: (n, 4 or 5) x1, y1, x2, y2 in pixels.
        margin: added on every side, as a part of the box's longer side.
    """
    height, width = image.shape[:2]
    boxes = bboxes[:, :4].astype(np.float64)
    added = margin * (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0.0, keepdims=True)
    first = np.clip(np.floor(boxes[:, :2] - added), 0, [width - 1, height - 1])
    last = np.maximum(np.clip(np.ceil(boxes[:, 2:] + added), 0, [width, height]), first + 1)
    boxes = np.concatenate((first, last), axis=1).astype(int)
    return [image[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.tolist()]


def blur_faces(image: np.ndarray, bboxes: np.ndarray) -> np.ndarray:
    """Return a copy with every face as a mosaic of 8 x 8 blocks: too coarse to tell who it is, or to undo."""
    blurred = image.copy()
    for face in crop_faces(blurred, bboxes, margin=0.1):
        height, width = face.shape[:2]
        blocks = cv2.resize(face, (min(BLOCKS, width), min(BLOCKS, height)), interpolation=cv2.INTER_AREA)
        face[:] = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
    return blurred
