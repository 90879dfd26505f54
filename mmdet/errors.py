"""Every error a user can cause, and the exit code of a tool that ends on one (mmdet/cli.py).

    MMDetError                exit code 2
    +-- ConfigError           a config file, a --cfg-options value, a command-line argument
    +-- DataError             a label file, an image, a folder of the data set
    +-- DeviceError           a device asked for but not there
    +-- CheckpointError       a checkpoint that is missing, unreadable or of another model
    +-- WriteError            a file that cannot be written: disk full, no such folder, no permission
    +-- TrainError            exit code 3: training itself went wrong (a loss is not finite)
    +-- Interrupted           exit code 75: SIGTERM or SIGINT; the state is saved, resume continues

A message says what is wrong, where, and what to do, in one line. `assert` is for what only a bug
of ours can break.
"""

import difflib
from collections.abc import Iterable


class MMDetError(Exception):
    """Base of all errors that end a tool with one line instead of a traceback."""

    exit_code = 2

    def __str__(self) -> str:
        """Return the message as one line, whatever names from a file stand in it."""
        return " ".join(super().__str__().splitlines())


class ConfigError(MMDetError):
    """A config file or a command-line argument is wrong."""


class DataError(MMDetError):
    """A label file, an image or a data folder is wrong."""


class DeviceError(MMDetError):
    """The device asked for cannot be used; the message says why."""


class CheckpointError(MMDetError):
    """A checkpoint is missing, unreadable, unsafe or of another model."""


class WriteError(MMDetError):
    """A file cannot be written; an older one of the same name is untouched."""


class TrainError(MMDetError):
    """Training cannot go on, for example because a loss is not finite."""

    exit_code = 3


class Interrupted(MMDetError):
    """A signal asked training to stop; the step was finished and the state saved."""

    exit_code = 75  # EX_TEMPFAIL: run again with --resume-from auto


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """Return "<what> = 'x' is unknown; did you mean 'y'? Known: a, b." for an error message."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{what} = {name!r} is unknown{hint} Known: {', '.join(names)}."
