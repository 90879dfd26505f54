"""Decoded images in files that stay in memory, so that an image is decoded once and not in every epoch.

The pixels are those of the decoder: nothing changes but the time. On the machine of docs/benchmarks.md a
third of the work on a training image was decoding its JPEG.
"""

import hashlib
from pathlib import Path

import numpy as np

from mmdet.errors import ConfigError, DataError, WriteError
from mmdet.files import write_bytes


class DecodedCache:
    """Raw pixels of the images that fit into a limit, one file each, shared by all workers and ranks.

    Which images are kept follows from their sizes alone, the first ones that fit, so processes need no
    communication. An image file that changes gets a new entry; entries are never deleted here.

    Args:
        folder: where; best on a memory file system such as /dev/shm, else on a fast local disk.
        limit_gib: size of all entries of this label file together.
        sizes_hw: (N, 2) heights and widths of the images.

    Raises:
        ConfigError: the folder cannot be made, or the limit is not positive.
    """

    def __init__(self, folder: str | Path, limit_gib: float, sizes_hw: np.ndarray) -> None:
        self.folder = Path(folder)
        if limit_gib <= 0:
            raise ConfigError(f"cache_gib = {limit_gib}: say how many GiB cache_dir may take")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cache_dir {folder}: {error.strerror or error}") from error
        ends = np.cumsum(sizes_hw.astype(np.int64).prod(axis=1) * 3)
        self.num_kept = int(np.searchsorted(ends, limit_gib * 2**30, side="right"))
        self.sizes_hw = sizes_hw

    def get(self, index: int, path: Path) -> np.ndarray | None:
        """Return the pixels (H, W, 3) of an image, read-only; None if it is not kept (yet)."""
        entry = self._entry(index, path)
        if entry is None:
            return None
        height, width = (int(side) for side in self.sizes_hw[index])
        try:
            return np.memmap(entry, np.uint8, "r", shape=(height, width, 3))
        except FileNotFoundError:
            return None

    def put(self, index: int, path: Path, image: np.ndarray) -> None:
        """Keep the pixels of an image if it is among those that fit and has the size the label file says.

        Raises:
            DataError: the folder is full or not writable.
        """
        entry = self._entry(index, path)
        if entry is None or image.shape[:2] != tuple(self.sizes_hw[index]):
            return
        try:  # another worker must not see half a file
            write_bytes(entry, np.ascontiguousarray(image).data, durable=False, is_shared=True)
        except WriteError as error:
            raise DataError(f"cache_dir {self.folder}: {error}; lower cache_gib") from error

    def _entry(self, index: int, path: Path) -> Path | None:
        """Return the file of an image; its name changes with the image file's size and time."""
        if index >= self.num_kept:
            return None
        try:
            about = path.stat()
        except OSError:
            return None  # reading the image raises the error
        key = f"{path.absolute()} {about.st_size} {about.st_mtime_ns} {tuple(self.sizes_hw[index])}"
        return self.folder / f"{hashlib.sha1(key.encode()).hexdigest()}.bgr"
