"""More than one look at an image: at a smaller size for close-ups, at tiles for long images.

A network finds faces of about 8 to 500 pixels of its input. A face that fills the image is larger than what
it was trained on; in an image ten times longer than wide it is smaller once that is fitted into a square.
"""

from typing import NamedTuple

import numpy as np

from mmdet.deploy.runtime.decode import Faces
from mmdet.deploy.runtime.letterbox import fit_size
from mmdet.deploy.runtime.options import AUTO

SMALL_PASS = 4  # the second look sees the image at a quarter of the size ...
CLOSE_UP = 0.25  # ... and adds faces whose longer side is at least this part of the image's longer side
HIDDEN = 0.5  # it is taken where a box of at least this part of the image's longer side is seen at all
SMALLEST = 8.0  # side, in pixels of the network input, of faces that are found
TILED_RATIO = 2.5  # images this many times longer than wide ...
TILED_SCALE = 0.5  # ... which are reduced to less than this, are tiled by "auto", ...
MOST_ALONG = 32  # ... at most so many along them; a line of pixels would be one for each


class Look(NamedTuple):
    """What is seen in one look at an image.

    Attributes:
        faces: before NMS.
        largest: longest side of all boxes of the coarsest level, however low they score; infinite: unknown.
    """

    faces: Faces
    largest: float = np.inf

    def scaled(self, scale: float) -> "Look":
        """Return the same in pixels of the image, given the factor from image to network input."""
        return Look(self.faces.scaled(scale), self.largest / scale)

    def may_hide_close_up(self, image_hw: tuple[int, int]) -> bool:
        """Return whether a face that fills the image may have been missed.

        Its score is near zero, but some cell still sees a box of its size: of 102 that only the second look
        finds, all had one of 0.64 of the image or more, and so have 2 in 100 other images (0.5: 15).
        """
        return self.largest >= HIDDEN * max(image_hw)


class Tile(NamedTuple):
    """A part of an image, in pixels: x1, y1 inside, x2, y2 outside."""

    x1: int
    y1: int
    x2: int
    y2: int


def small_size(input_hw: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Return the size of the second look: a quarter, rounded up to what the network takes, at most all."""
    height, width = (min(-(-side // SMALL_PASS // multiple) * multiple, side) for side in input_hw)
    return height, width


def keep_close_ups(found: Faces, image_hw: tuple[int, int]) -> Faces:
    """Return the faces that only a look at a smaller size is for."""
    sides = (found.bboxes[:, 2:4] - found.bboxes[:, :2]).max(axis=1, initial=0.0)
    return found.take(np.flatnonzero(sides >= CLOSE_UP * max(image_hw)))


def choose_tiles(image_hw: tuple[int, int], input_hw: tuple[int, int], tiles: int | str) -> list[Tile]:
    """Return the tiles of an image as `DetectOptions.tiles` says; none if it is not tiled."""
    short, long = sorted(image_hw)
    if tiles == AUTO:
        is_long = long >= TILED_RATIO * short and fit_size(image_hw, input_hw)[2] < TILED_SCALE
        return cut_tiles(image_hw, max(short, -(-long // MOST_ALONG))) if is_long else []
    return cut_tiles(image_hw, -(-long // int(tiles))) if int(tiles) > 1 else []


def smallest_face(image_hw: tuple[int, int], input_hw: tuple[int, int], tiles: int | str) -> float:
    """Return the side, in pixels of the image, below which faces are hardly found."""
    parts = choose_tiles(image_hw, input_hw, tiles) or [Tile(0, 0, image_hw[1], image_hw[0])]
    part = parts[0]
    return SMALLEST / fit_size((part.y2 - part.y1, part.x2 - part.x1), input_hw)[2]


def cut_tiles(image_hw: tuple[int, int], side: int) -> list[Tile]:
    """Return squares that cover an image and overlap by half: a face of up to half a side is whole in one.

    Args:
        image_hw: of the image.
        side: of the squares; they are smaller where the image is.
    """
    ys, xs = (_starts(length, side) for length in image_hw)
    height, width = image_hw
    return [Tile(x, y, min(x + side, width), min(y + side, height)) for y in ys for x in xs]


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = -(-(length - side) // max(side // 2, 1)) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def place(found: Faces, tile: Tile, image_hw: tuple[int, int]) -> Faces:
    """Return a tile's faces in pixels of the image, without those that a seam has cut.

    A face that touches an inner edge and is not longer than the overlap is whole in the neighbour.
    """
    height, width = image_hw
    x1, y1, x2, y2 = found.bboxes[:, :4].T
    cut_x = ((x1 <= 1) & (tile.x1 > 0)) | ((x2 >= tile.x2 - tile.x1 - 1) & (tile.x2 < width))
    cut_y = ((y1 <= 1) & (tile.y1 > 0)) | ((y2 >= tile.y2 - tile.y1 - 1) & (tile.y2 < height))
    is_small = np.maximum(x2 - x1, y2 - y1) <= min(tile.x2 - tile.x1, tile.y2 - tile.y1) / 2
    return found.take(np.flatnonzero(~((cut_x | cut_y) & is_small))).scaled(1, (tile.x1, tile.y1))
