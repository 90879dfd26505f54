"""Log problems with images, once per image; stop when too many cannot be read."""

import logging
from collections import Counter
from collections.abc import Iterable

from mmdet.core.structures import Note
from mmdet.errors import DataError

SHOWN_PER_KIND = 10

logger = logging.getLogger(__name__)


class NoteKeeper:
    """Collects the notes of all batches, in the main process.

    Args:
        max_unreadable: unreadable images allowed per epoch on this rank (1 % of its images, at least 1).

    Attributes:
        counts: kind of note -> sum of the notes' counts, repetitions included.
        names: kind of note -> names of the images, in order of appearance.
    """

    def __init__(self, max_unreadable: int) -> None:
        self.max_unreadable = max_unreadable
        self.counts: Counter[str] = Counter()
        self.names: dict[str, dict[str, None]] = {}
        self._epoch = 0
        self._unreadable: set[str] = set()

    def add(self, notes: Iterable[Note], epoch: int = 0) -> None:
        """Take the notes of one batch.

        Raises:
            DataError: more images of this epoch than `max_unreadable` could not be read.
        """
        if epoch != self._epoch:
            self._epoch, self._unreadable = epoch, set()
        for note in notes:
            self._log_once(note)
            self.counts[note.kind] += note.count
            if note.kind == "unreadable":
                self._unreadable.add(note.name)
        if len(self._unreadable) > self.max_unreadable:
            names = sorted(self._unreadable)
            raise DataError(
                f"{len(names)} images cannot be read in epoch {epoch}, more than 1 % of this rank's images: "
                f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}. Check img_prefix and the files."
            )

    def summary(self) -> dict[str, dict[str, int]]:
        """Return {kind: {"images": different images, "count": sum}} of all notes so far."""
        return {
            kind: {"images": len(names), "count": self.counts[kind]} for kind, names in self.names.items()
        }

    def _log_once(self, note: Note) -> None:
        names = self.names.setdefault(note.kind, {})
        if note.name in names:
            return
        names[note.name] = None
        if len(names) <= SHOWN_PER_KIND:
            last = " (further ones are only counted)" if len(names) == SHOWN_PER_KIND else ""
            logger.warning("%s: %s: %s%s", note.kind, note.name, note.detail, last)
