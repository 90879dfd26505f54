"""A study: what a campaign searches, and the Optuna storage that its workers share.

Storage is a SQLite file by default, a journal file (`journal:PATH`) on a disk that machines share, or
PostgreSQL (`postgresql://...`). A storage may hold several studies; each belongs to one search.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.errors import ConfigError, unknown_name
from mmdet.search.settings import check_same

SAMPLERS = ("random", "tpe", "nsgaii")
PRUNERS = ("none", "median", "halving")
SETTINGS = ("AP_easy", "AP_medium", "AP_hard")
ALIVE, SLOT, ERROR, EXCESS = "alive", "slot", "error", "excess"  # keys of a trial's notes


@dataclass(frozen=True)
class StudySettings:
    """A study of configs/search/study_*.py.

    Attributes:
        search, mode: file and step of the two-step search that gives the candidates.
        base: template, instead of the search's.
        configs: ready config files to train instead (glob patterns, relative to where the tool runs).
        num_candidates, num_seeds: trainings are num_candidates * num_seeds.
        epochs: of each training.
        eval_interval: epochs between evaluations while training, for pruning and certainty; 0: at the end.
        sampler: "random", the papers' choice, or Optuna's "tpe" or "nsgaii" (AP and FLOPs at once).
        pruner: "none", "median" or "halving"; a training that falls behind at an evaluation is ended.
        select_by: the AP that candidates are compared by.
        search_val: share of the training images kept out of training, which decides; 0: data.test does.
        max_gflops, max_params, max_latency_ms: constraints beside the budget; latency by onnxruntime here.
        seed: of candidates and trainings.
        options: --cfg-options of trainings and evaluations.
        train_args: further arguments of tools/train.py.
        heartbeat_s: seconds between signs of life; a trial without one for 4 times as long is given back.
    """

    search: str = ""
    mode: int = 1
    base: str = ""
    configs: tuple[str, ...] = ()
    num_candidates: int = 64
    num_seeds: int = 1
    epochs: int = 80
    eval_interval: int = 0
    sampler: str = "random"
    pruner: str = "none"
    select_by: str = "AP_hard"
    search_val: float = 0.0
    max_gflops: float | None = None
    max_params: int | None = None
    max_latency_ms: float | None = None
    seed: int = 0
    options: tuple[str, ...] = ()
    train_args: tuple[str, ...] = ()
    heartbeat_s: float = 30.0

    def __post_init__(self):
        for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS), ("select_by", SETTINGS)):
            if getattr(self, name) not in known:
                raise ConfigError(unknown_name(f"search.{name}", getattr(self, name), known))
        prunes, least = self.pruner != "none", min(self.num_candidates, self.num_seeds, self.epochs)
        rules = {
            "search.search or search.configs, one of them": bool(self.search) != bool(self.configs),
            "search.sampler 'random' with search.configs": not self.configs or self.sampler == "random",
            "search.eval_interval for a search.pruner": self.eval_interval or not prunes,
            "one objective (not nsgaii) for a search.pruner": self.sampler != "nsgaii" or not prunes,
            "candidates, seeds and epochs >= 1": least >= 1,
            "mode 1 or 2, 0 <= search_val < 1": self.mode in (1, 2) and 0 <= self.search_val < 1,
        }
        for rule, is_kept in rules.items():
            if not is_kept:
                raise ConfigError(f"a study needs {rule}")

    @property
    def num_slots(self) -> int:
        """Return the number of trainings."""
        return self.num_candidates * self.num_seeds


def open_study(name: str, url: str, settings: StudySettings, identity: dict[str, Any] | None) -> Any:
    """Open or create a study.

    Args:
        name: of the study in its storage.
        url: a SQLAlchemy URL, or "journal:PATH".
        settings: of the study.
        identity: what its candidates come from; a study of another one is refused. None: not checked.

    Raises:
        ConfigError: optuna is missing, the storage cannot be reached, or the study is of another search.
    """
    optuna = import_optuna()
    try:
        study = optuna.create_study(
            storage=_open_storage(optuna, url),
            study_name=name,
            directions=["maximize", "minimize"] if settings.sampler == "nsgaii" else ["maximize"],
            load_if_exists=True,
            sampler=_make_sampler(optuna.samplers, settings.sampler),
            pruner=_make_pruner(optuna.pruners, settings.pruner),
        )
    except Exception as error:  # drivers raise errors of their own
        reason = without_password(str(error).splitlines()[0])
        raise ConfigError(f"storage {without_password(url)} cannot be used: {reason}") from error
    if identity is not None:
        where = f"study {name!r} in {without_password(url)}"
        check_same(
            study.user_attrs.get("identity", identity), identity, where, "choose another --name or --out"
        )
        study.set_user_attr("identity", identity)
    return study


def import_optuna() -> Any:
    """Return the optuna module with its own log quiet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("campaigns need optuna: pip install -e .[search]") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def without_password(text: str) -> str:
    """Return a text with the passwords of the URLs in it replaced by ***."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)


def is_dead(trial: Any, settings: StudySettings) -> bool:
    """Return whether a running trial has not been heard of for 4 heartbeats."""
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - max(trial.user_attrs.get(ALIVE, 0.0), started) > 4 * settings.heartbeat_s


def identity_of(settings: StudySettings, source: Any) -> dict[str, Any]:
    """Return what makes trials of a study comparable; `source` gives its candidates."""
    names = ("mode", "epochs", "sampler", "seed", "num_seeds", "search_val", "select_by")
    return {**{name: getattr(settings, name) for name in names}, **source.identity()}


def _open_storage(optuna: Any, url: str) -> Any:
    if url.startswith("journal:"):
        path = Path(url.removeprefix("journal:").removeprefix("//"))
        path.parent.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        return optuna.storages.JournalStorage(backend)
    wait = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    return optuna.storages.RDBStorage(url, engine_kwargs=wait)


def _make_sampler(samplers: Any, name: str) -> Any:
    def constraint(trial: Any) -> Sequence[float]:
        return (trial.user_attrs.get(EXCESS, 0.0),)

    if name == "random":
        return samplers.RandomSampler()
    return {"tpe": samplers.TPESampler, "nsgaii": samplers.NSGAIISampler}[name](constraints_func=constraint)


def _make_pruner(pruners: Any, name: str) -> Any:
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=4)
    return pruners.SuccessiveHalvingPruner() if name == "halving" else pruners.NopPruner()
