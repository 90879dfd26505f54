"""What a race is: entries, budget, seeds and test images, read from a file of configs/races/."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.config.find import find_config
from mmdet.config.table import check_keys
from mmdet.errors import ConfigError, unknown_name

ENTRY_KEYS = ("config", "options", "train_args", "epochs", "command", "seeds")
TEST_KEYS = ("options", "mode")


@dataclass(frozen=True)
class Entry:
    """One contestant.

    Attributes:
        name: of its folder and its row.
        config: config file to train; "" for a command.
        options: --cfg-options of trainings and evaluations.
        train_args: further arguments of tools/train.py.
        epochs: of each training, may be a fraction; 0: as many as the budget allows.
        command: of another program, in any environment of its own. {seed}, {out} and {budget} (seconds or
            images) are filled in; it writes {out}/predictions/TEST/EVENT/NAME.txt, as
            test_widerface.py --save-preds does. {out}/cost.json, where it writes that, says {"cpu_s": of its
            training alone, "images": seen}; else all that the command uses counts.
        seeds: instead of the race's.
    """

    name: str
    config: str = ""
    options: tuple[str, ...] = ()
    train_args: tuple[str, ...] = ()
    epochs: float = 0
    command: str = ""
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.config) == bool(self.command):
            raise ConfigError(f"race.entries.{self.name}: needs a config or a command, one of them")
        if self.epochs < 0 or not self.name or Path(self.name).name != self.name:
            raise ConfigError(f"race.entries.{self.name}: needs a plain name, and epochs of at least 0")


@dataclass(frozen=True)
class RaceSettings:
    """The dict `race` of a file of configs/races/.

    Attributes:
        entries: name -> dict with the keys of Entry.
        tests: name -> dict(options=--cfg-options that say where the images of data.test are, mode=input size
            as tools/test_widerface.py has it; 0 if left out).
        config: whose data.test, with those options, is evaluated for commands; default: the first entry's.
        seeds: a training each.
        budget_cpu_s: processor seconds of a training, all its processes together, or
        budget_images: images it sees. Each entry without epochs gets as many as fit.
        options: --cfg-options of all entries.
        metrics: names of METRICS.
        figures: of the metrics, columns of the table.
        against: entry that the others are compared with; default: the first.
        curves: also evaluate the checkpoint of each epoch.
    """

    entries: dict
    tests: dict
    config: str = ""
    seeds: tuple[int, ...] = (0,)
    budget_cpu_s: float = 0
    budget_images: int = 0
    options: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("widerface", "mAP", "heights")
    figures: tuple[str, ...] = ("AP50", "AP_easy", "AP_medium", "AP_hard")
    against: str = ""
    curves: bool = False
    parsed: tuple[Entry, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        if not self.entries or not self.tests or not self.seeds:
            raise ConfigError("a race needs entries, tests and seeds")
        if (self.budget_cpu_s > 0) == (self.budget_images > 0):
            raise ConfigError("a race needs race.budget_cpu_s or race.budget_images, one of them")
        parsed = tuple(_read_entry(name, values) for name, values in self.entries.items())
        object.__setattr__(self, "parsed", parsed)
        for name, values in self.tests.items():
            check_keys(_as_dict(values, f"race.tests.{name}"), TEST_KEYS, f"race.tests.{name}")
        if self.against and self.against not in self.entries:
            raise ConfigError(unknown_name("race.against", self.against, self.entries))
        if not self.test_config and any(entry.command for entry in parsed):
            raise ConfigError("a race of commands alone needs race.config, whose data.test is evaluated")

    @property
    def budget(self) -> float:
        """Return seconds or images."""
        return self.budget_cpu_s or self.budget_images

    @property
    def test_config(self) -> str:
        """Return the config that commands are evaluated by, "" if there is none."""
        return self.config or next((entry.config for entry in self.parsed if entry.config), "")

    def seeds_of(self, entry: Entry) -> tuple[int, ...]:
        """Return an entry's seeds."""
        return entry.seeds or self.seeds


def _read_entry(name: str, values: Any) -> Entry:
    path = f"race.entries.{name}"
    check_keys(_as_dict(values, path), ENTRY_KEYS, path)
    lists = {key: tuple(values.get(key) or ()) for key in ("options", "train_args", "seeds")}
    config = find_config(values["config"]) if values.get("config") else ""
    return Entry(name, **{**values, **lists, "config": config})


def _as_dict(values: Any, path: str) -> dict:
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must be a dict")
    return values
