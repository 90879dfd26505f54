"""Drawing for the toy data set: one cartoon head with five points, backgrounds and distractors.

Everything is drawn in uint8 BGR by OpenCV and driven by one np.random.RandomState.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import RandomState

_CANVAS = 192  # a head is drawn at this size, then shrunk to where it belongs
_CENTER = np.array([96.0, 92.0])
_SKINS = np.array(
    [[150, 185, 235], [120, 160, 215], [95, 135, 190], [70, 100, 150], [45, 65, 105], [170, 200, 245]]
)
_HAIRS = np.array([[20, 20, 25], [25, 45, 75], [40, 80, 120], [90, 170, 215], [120, 120, 125], [35, 50, 140]])


@dataclass(frozen=True)
class Head:
    """One head on its own canvas.

    Attributes:
        image: (S, S, 3) uint8; alpha: (S, S) uint8, 255 where the head is.
        axes: half width and half height of the face ellipse (hairline to chin, ear to ear) around _CENTER.
        kps: (5, 2) left eye, right eye, nose, left and right mouth corner, in canvas pixels.
    """

    image: np.ndarray
    alpha: np.ndarray
    axes: np.ndarray
    kps: np.ndarray


def color(rng: RandomState, base: np.ndarray | None = None, spread: int = 18) -> tuple[int, int, int]:
    """Return a random BGR colour, or one near `base`."""
    mean = rng.randint(0, 256, 3) if base is None else base + rng.randint(-spread, spread + 1, 3)
    return tuple(int(v) for v in np.clip(mean, 0, 255))  # type: ignore[return-value]


def draw_head(rng: RandomState) -> Head:
    """Draw one random head."""
    image = np.zeros((_CANVAS, _CANVAS, 3), np.uint8)
    alpha = np.zeros((_CANVAS, _CANVAS), np.uint8)
    half_w = rng.uniform(42, 50)
    axes = np.array([half_w, half_w * rng.uniform(1.2, 1.4)])
    skin = np.array(color(rng, _SKINS[rng.randint(len(_SKINS))]))
    hair = color(rng, _HAIRS[rng.randint(len(_HAIRS))])
    yaw = float(np.clip(rng.normal(0, 0.35), -0.9, 0.9))

    def ellipse(center, half, fill, angles=(0, 360), thick=-1, on_alpha=False) -> None:  # noqa: ANN001
        at, size = tuple(np.rint(center).astype(int)), tuple(np.maximum(np.rint(half), 1).astype(int))
        for target, value in ((image, fill), (alpha, 255)) if on_alpha else ((image, fill),):
            cv2.ellipse(target, at, size, 0, *angles, value, thick, cv2.LINE_AA)

    def place(u: float, v: float) -> np.ndarray:
        """Map face coordinates in [-1, 1] to the canvas; a turn of the head moves its middle most."""
        return _CENTER + axes * (u * np.sqrt(1 - 0.6 * yaw**2) + 0.55 * yaw * (1 - 0.5 * abs(u)), v)

    long_hair = rng.rand() < 0.35
    if rng.rand() < 0.9:
        ellipse(_CENTER - (0, 8), axes * (1.18, 1.16), hair, on_alpha=True)
        if long_hair:
            ellipse(_CENTER + (0, 18), axes * (1.25, 1.15), hair, on_alpha=True)
    shade = color(rng, skin * 0.8, 6)
    for side in (-1, 1):
        ellipse(_CENTER + (side * axes[0], 2), (7, 13), shade, on_alpha=True)
    ellipse(_CENTER, axes, tuple(skin.tolist()), on_alpha=True)

    spots = ((-0.42, -0.12), (0.42, -0.12), (0.0, 0.2), (-0.32, 0.52), (0.32, 0.52))
    kps = np.stack([place(u, v) for u, v in spots])
    kps[2, 0] += 4 * yaw  # the tip of the nose sticks out
    _draw_eyes(rng, image, kps[:2], ellipse, hair)
    dark = color(rng, skin * 0.62, 6)
    _line(image, (kps[0] + kps[1]) / 2 + (0, 4), kps[2] + (5 * yaw, 0), dark)
    ellipse(kps[2], (9, 5), dark, (0, 180), 2)
    _draw_mouth(rng, image, kps[3:], ellipse, dark)
    if rng.rand() < 0.15:
        ellipse(place(0, 0.62), axes * (0.62, 0.36), hair, (20, 160), 9)  # beard
    fringe = rng.uniform(0.1, 0.35)
    if rng.rand() < 0.85:
        ellipse(_CENTER - (0, axes[1] * (1 - fringe)), axes * (0.85, fringe * 0.9), hair, on_alpha=True)
    if rng.rand() < 0.15:  # a hat
        top = _CENTER - (0, axes[1] * 0.9)
        ellipse(top, axes * (1.1, 0.55), color(rng), (180, 360), on_alpha=True)
    return Head(_light(rng, image), alpha, axes, kps)


def _line(image: np.ndarray, start: np.ndarray, end: np.ndarray, ink: tuple[int, int, int]) -> None:
    a, b = (tuple(np.rint(point).astype(int)) for point in (start, end))
    cv2.line(image, a, b, ink, 2, cv2.LINE_AA)


def _draw_eyes(rng: RandomState, image: np.ndarray, eyes: np.ndarray, ellipse, hair) -> None:  # noqa: ANN001
    width, open_ = rng.uniform(8, 11), rng.uniform(3, 7)
    iris, look, brow = color(rng, np.array([70, 60, 50]), 50), rng.uniform(-2, 2), rng.uniform(13, 18)
    for eye in eyes:
        ellipse(eye, (width, open_), (235, 235, 240))
        ellipse(eye + (look, 0), (open_ * 0.8, open_ * 0.8), iris)
        ellipse(eye + (look, 0), (2, 2), (10, 10, 10))
        ellipse(eye - (0, brow - 8), (width + 3, 9), hair, (200, 340), 3)
    kind = rng.rand()
    if kind < 0.15:  # glasses, now and then dark
        frame = color(rng, np.array([30, 30, 30]), 30)
        for eye in eyes:
            ellipse(eye, (15, 12), frame, thick=-1 if kind < 0.05 else 2)
        _line(image, eyes[0] + (14, 0), eyes[1] - (14, 0), frame)


def _draw_mouth(rng: RandomState, image: np.ndarray, corners: np.ndarray, ellipse, dark) -> None:  # noqa: ANN001
    lips = color(rng, np.array([80, 75, 170]), 30)
    middle, half = corners.mean(axis=0), (corners[1, 0] - corners[0, 0]) / 2
    kind = rng.randint(3)
    if kind == 0:  # a smile
        ellipse(middle, (half, rng.uniform(6, 12)), lips, (0, 180))
        ellipse(middle, (half * 0.8, 4), (240, 240, 240), (0, 180))
    elif kind == 1:  # open
        ellipse(middle, (half, rng.uniform(5, 11)), lips)
        ellipse(middle, (half * 0.7, 4), dark)
    else:
        ellipse(middle, (half, 4), lips)
        _line(image, corners[0], corners[1], dark)


def _light(rng: RandomState, image: np.ndarray) -> np.ndarray:
    """Brighten one side and darken the other."""
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.45)
    axis = np.linspace(-depth, depth, _CANVAS, dtype=np.float32)
    ramp = 1 + axis[None] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    return np.clip(image * ramp[..., None], 0, 255).astype(np.uint8)


def paste_head(
    image: np.ndarray, head: Head, center: np.ndarray, scale: float, roll: float, blur: float
) -> np.ndarray:
    """Draw `head` into `image` around `center`; return its (5, 2) points there.

    Args:
        image: (H, W, 3) uint8, changed in place.
        head: what to draw.
        center: x, y of the face ellipse's centre.
        scale: image pixels per canvas pixel.
        roll: radians, clockwise.
        blur: standard deviation in image pixels; 0 for none.
    """
    patch, alpha, shrink = head.image, head.alpha, 1.0
    while scale * shrink < 0.5:
        shrink *= 2
    if shrink > 1:  # area averaging first, so that a tiny head is not a handful of random pixels
        size = (round(_CANVAS / shrink),) * 2
        patch = cv2.resize(patch, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    turn = scale * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    reach = scale * _CANVAS * 0.75
    x0, y0 = np.maximum(np.floor(center - reach), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(center + reach), image.shape[1::-1]).astype(int)
    kps = (head.kps - _CENTER) @ turn.T + center
    if x1 <= x0 or y1 <= y0:
        return kps
    shift = center - turn @ _CENTER - (x0, y0)
    matrix = np.concatenate([turn * _CANVAS / patch.shape[0], shift[:, None]], axis=1)
    patch = cv2.warpAffine(patch, matrix, (x1 - x0, y1 - y0))
    alpha = cv2.warpAffine(alpha, matrix, (x1 - x0, y1 - y0))
    if blur > 0:
        patch, alpha = cv2.GaussianBlur(patch, (0, 0), blur), cv2.GaussianBlur(alpha, (0, 0), blur)
    weight = alpha[..., None].astype(np.float32) / 255
    region = image[y0:y1, x0:x1]
    region[:] = (region + weight * (patch.astype(np.float32) - region) + 0.5).astype(np.uint8)
    return kps


def draw_background(rng: RandomState, height: int, width: int) -> np.ndarray:
    """Return a textured (height, width, 3) uint8 image without faces."""
    grid = rng.randint(2, 9)
    coarse, fine = (rng.randint(0, 256, (n, n, 3)).astype(np.uint8) for n in (grid, 8 * grid))
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = cv2.addWeighted(coarse, 0.75, cv2.resize(fine, (width, height)), rng.uniform(0.05, 0.3), 0)
    kind = rng.randint(4)
    if kind == 0:  # stripes
        step, ink = rng.randint(8, 60), color(rng)
        for x in range(-height, width, step):
            end = (x + int(height * rng.uniform(0, 1)), height)
            cv2.line(image, (x, 0), end, ink, rng.randint(1, step // 2), cv2.LINE_AA)
    elif kind == 1:  # houses with windows
        for _ in range(rng.randint(3, 9)):
            x, y, w = rng.randint(-20, width), rng.randint(0, height), rng.randint(20, 120)
            cv2.rectangle(image, (x, y), (x + w, height), color(rng), -1)
            for i in range(6, w - 6, 14):
                cv2.rectangle(image, (x + i, y + 8), (x + i + 7, y + 18), color(rng), -1)
    return image


def draw_distractors(rng: RandomState, image: np.ndarray, num: int) -> None:
    """Draw things that are no faces: balls, skin-coloured blobs, blank heads, boxes, text."""
    height, width = image.shape[:2]
    for _ in range(num):
        at = (rng.randint(0, width), rng.randint(0, height))
        size = int(rng.uniform(6, 60))
        kind = rng.randint(6)
        ink = color(rng) if kind != 1 else color(rng, _SKINS[rng.randint(len(_SKINS))])
        if kind <= 1:
            axes = (size, int(size * rng.uniform(0.4, 1.6)) + 1)
            cv2.ellipse(image, at, axes, rng.randint(180), 0, 360, ink, -1, cv2.LINE_AA)
        elif kind == 2:
            cv2.rectangle(image, at, (at[0] + size, at[1] + rng.randint(4, 90)), ink, -1)
        elif kind == 3:
            points = np.array(at) + rng.randint(-size, size + 1, (rng.randint(3, 7), 2))
            cv2.fillPoly(image, [points.astype(np.int32)], ink, cv2.LINE_AA)
        elif kind == 4:
            word = "".join(chr(c) for c in rng.randint(48, 91, rng.randint(1, 7)))
            cv2.putText(image, word, at, rng.randint(0, 5), size / 40, ink, rng.randint(1, 4), cv2.LINE_AA)
        else:  # a ball with random dots
            cv2.circle(image, at, size, ink, -1, cv2.LINE_AA)
            for _ in range(rng.randint(1, 8)):
                dot = np.array(at) + rng.randint(-size, size + 1, 2) * 0.6
                cv2.circle(image, tuple(dot.astype(int)), max(1, size // 8), color(rng), -1, cv2.LINE_AA)


def draw_person(rng: RandomState, image: np.ndarray, center: np.ndarray, half_h: float) -> None:
    """Draw neck and shoulders below a face centred at `center` with half height `half_h`."""
    x, y = int(center[0]), int(center[1])
    h = max(int(half_h), 1)
    clothes, neck = color(rng), color(rng, _SKINS[rng.randint(len(_SKINS))])
    cv2.rectangle(image, (x - h // 3, y + h // 2), (x + h // 3, y + int(1.6 * h)), neck, -1)
    cv2.ellipse(image, (x, y + 3 * h), (int(1.7 * h), int(1.7 * h)), 0, 180, 360, clothes, -1, cv2.LINE_AA)


def finish(rng: RandomState, image: np.ndarray) -> np.ndarray:
    """Apply exposure, contrast, sensor noise and, now and then, lens blur or gray."""
    gain, offset = rng.uniform(0.7, 1.2), rng.uniform(-25, 25)
    noise = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    level = rng.uniform(0, 0.12)
    if rng.rand() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5))
    image = cv2.addWeighted(image, gain, noise, level, offset - 128 * level)
    if rng.rand() < 0.08:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return image
