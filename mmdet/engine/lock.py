"""One training at a time in a work_dir: two would overwrite each other's checkpoints."""

import os
from pathlib import Path
from typing import BinaryIO

from mmdet.errors import ConfigError

NAME = ".lock"


def lock_work_dir(work_dir: Path) -> BinaryIO | None:
    """Return an open file that holds the lock until it is closed or this process ends, however it ends.

    The lock belongs to the process, so its children do not keep it. None where the system has no such lock.

    Raises:
        ConfigError: another process holds it.
        OSError: the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return None
    file = open(work_dir / NAME, "a+b")  # it stays open
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read(80).decode(errors="replace").strip() or "another process"
        file.close()
        if isinstance(error, BlockingIOError | PermissionError):
            raise ConfigError(
                f"work_dir {work_dir}: {holder} trains there; choose another --work-dir"
            ) from None
        return None  # a file system without locks
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}\n".encode())
    file.flush()
    return file
