"""The times of an .mp4's frames: OpenCV writes films of one rate only."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

AROUND = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # the boxes around "stts", from outside
# Box -> where its 32-bit duration is, from the box's name; in the film's unit or, the last, the frames'.
DURATIONS = {b"mvhd": 20, b"tkhd": 24, b"elst": 12, b"mdhd": 20}


def is_variable(times_s: Sequence[float], rate: float) -> bool:
    """Return whether frames come at increasing times that are more than a quarter of a frame off a rate."""
    times = np.asarray(times_s) - times_s[0] if len(times_s) else np.zeros(0)
    is_increasing = len(times) > 1 and bool((np.diff(times) > 0).all())
    return is_increasing and bool(np.abs(times * rate - np.arange(len(times))).max() > 0.25)


def set_times(film: Path, times_s: Sequence[float]) -> None:
    """Give each frame of a film its own time, counted from the first.

    Args:
        film: an .mp4 of one track that OpenCV has written: its index, the box "moov", is at the end.
        times_s: increasing, one per frame and at least two.
    """
    with film.open("r+b") as file:
        begin = 0
        while (head := struct.unpack(">I4sQ", file.read(16)))[1] != b"moov":
            begin += head[2] if head[0] == 1 else head[0]  # a box of more than 4 GiB has a longer head
            file.seek(begin)
        file.seek(begin)
        index = _retimed(bytearray(file.read()), np.asarray(times_s))
        file.seek(begin)
        file.write(index)


def _retimed(index: bytearray, times_s: np.ndarray) -> bytearray:
    """Return the box "moov" with other times."""
    units = {box: struct.unpack_from(">I", index, index.index(box) + 16)[0] for box in (b"mvhd", b"mdhd")}
    ticks = np.rint((times_s - times_s[0]) * units[b"mdhd"]).astype(int)
    steps = np.diff(ticks, append=2 * ticks[-1] - ticks[-2]).tolist()  # the last as long as the one before
    for box, place in DURATIONS.items():
        duration = sum(steps) * units.get(box, units[b"mvhd"]) // units[b"mdhd"]
        struct.pack_into(">I", index, index.index(box) + place, duration)
    table = struct.pack(">I4sII", 16 + 8 * len(steps), b"stts", 0, len(steps))
    table += b"".join(struct.pack(">II", 1, step) for step in steps)
    place = index.index(b"stts") - 4
    (size,) = struct.unpack_from(">I", index, place)
    index[place : place + size] = table
    for box in AROUND:
        (before,) = struct.unpack_from(">I", index, index.index(box) - 4)
        struct.pack_into(">I", index, index.index(box) - 4, before - size + len(table))
    return index
