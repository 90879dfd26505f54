"""Workers of a campaign: claim a candidate, train it in a child process, evaluate it, report to the study.

Any number of workers on any machines share one storage. A worker that dies stops sending signs of life;
another one then claims its candidate and continues from the checkpoint, where the folder is shared. A
training is tied to its worker: when the worker is killed, it gets SIGTERM, saves and ends.
"""

import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.config import load_config
from mmdet.errors import ConfigError
from mmdet.files import write_text
from mmdet.launch.jobs import Child, child_env, eval_command, start, train_command
from mmdet.launch.report import read_metrics
from mmdet.search import cost
from mmdet.search.candidates import Draws, Files
from mmdet.search.split import Split
from mmdet.search.study import ALIVE, ERROR, EXCESS, SETTINGS, SLOT, StudySettings, import_optuna, is_dead

logger = logging.getLogger(__name__)

POLL_S = 1.0
CONFIG, RUN = "candidate.py", "run"  # in a trial's folder; a training writes its resolved config, too
MAX_TRIES = 2  # failed trainings of a candidate before it is left out
MAX_ASKS = 2000  # proposals for one candidate
INTERRUPTED = 75  # exit code of a training that saved and stopped
# Runs a command that gets SIGTERM when the thread that started it ends (Linux; elsewhere it only runs it).
TIED = """import ctypes, os, sys
getattr(ctypes.CDLL(None), "prctl", lambda *a: 0)(1, 15)
os.execv(sys.argv[1], sys.argv[1:])"""


@dataclass
class Campaign:
    """What all workers of a process share.

    Attributes:
        study: the Optuna study.
        settings: of the study.
        source: of candidates.
        out: folder of the trials; shared by machines that shall take over each other's trials.
        device: kind of device for trainings.
        split: label files where a part of the training images decides, or None.
        stop: set to end after saving.
        started: failures before are forgotten: their cause may have been repaired.
    """

    study: Any
    settings: StudySettings
    source: Files | Draws
    out: Path
    device: str
    split: Split | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.time)

    def run(self, card: int | None = None) -> None:
        """Work until every candidate is done, or until `stop`; waits for candidates of other workers."""
        while not self.stop.is_set():
            self._bury()
            claimed = self._claim()
            if claimed:
                self._work(*claimed, card)
            elif self._running():
                self.stop.wait(min(self.settings.heartbeat_s, 10))
            else:
                return

    def _trials(self) -> list:
        return self.study.get_trials(deepcopy=False)

    def _running(self) -> list:
        return [trial for trial in self._trials() if trial.state.name == "RUNNING"]

    def _bury(self) -> None:
        """End trials whose worker has died, so that their candidates are free."""
        for trial in self._running():
            if is_dead(trial, self.settings):
                logger.warning("trial %d has died; its candidate is given back", trial.number)
                self._finish(trial, "FAIL")

    def _claim(self) -> tuple[Any, int] | None:
        """Return a new trial and its slot, or None if no slot is free.

        Trials choose in the order of their numbers, which the storage gives out one by one: each waits until
        those before it have chosen, so that no two take the same slot.
        """
        if self._free_slot() is None:
            return None
        trial = self.study.ask()
        while any(SLOT not in t.user_attrs for t in self._running() if t.number < trial.number):
            self.stop.wait(0.1)
            self._bury()
        slot = self._free_slot(trial.number)
        if slot is None:
            self._finish(trial, "FAIL")
            return None
        trial.set_user_attr(ALIVE, time.time())
        trial.set_user_attr(SLOT, slot)
        return trial, slot

    def _free_slot(self, me: int | None = None) -> int | None:
        """Return the first slot that is neither done, nor hopeless, nor claimed by another trial."""
        taken: set = set()
        failures: Counter = Counter()
        missed = 0
        for trial in self._trials():
            slot, state = trial.user_attrs.get(SLOT), trial.state.name
            if state == "PRUNED" and EXCESS in trial.user_attrs:
                missed += 1
            elif state in ("COMPLETE", "PRUNED") or (state == "RUNNING" and trial.number != me):
                taken.add(slot)
            elif state == "FAIL" and ERROR in trial.user_attrs:
                failures[slot] += trial.datetime_start.timestamp() > self.started
        if missed > MAX_ASKS * self.settings.num_slots:
            raise ConfigError(
                f"{missed} suggestions missed the budget or a constraint; widen search.eps or them"
            )
        taken |= {slot for slot, count in failures.items() if count >= MAX_TRIES}
        return next((slot for slot in range(self.settings.num_slots) if slot not in taken), None)

    def _finish(self, trial: Any, state: str, values: Any = None) -> None:
        """Tell the study; a trial that another worker has ended stays as it is."""
        state = getattr(import_optuna().trial.TrialState, state)
        self.study.tell(trial.number, values, state=state, skip_if_finished=True)

    def _work(self, trial: Any, slot: int, card: int | None) -> None:
        seed, candidate = divmod(slot, self.settings.num_candidates)
        trial.set_user_attr("candidate", candidate)
        trial.set_user_attr("seed", self.settings.seed + seed)
        config, folder = self._folder(candidate) / CONFIG, self._folder(slot)
        try:
            if not config.exists() and not self._write_config(trial, candidate, config):
                self._finish(trial, "PRUNED")
                return
            trial.set_user_attr("config", str(config))
            trial.set_user_attr("run", str(folder / RUN))
            trial.set_user_attr("flops", cost.model_flops(load_config(config).model))
            with signs_of_life(trial, self.settings.heartbeat_s) as lost:
                state, values = self._train_and_evaluate(trial, config, folder, card, lost)
            self._finish(trial, state, values)
        except ConfigError as error:
            trial.set_user_attr(ERROR, str(error))
            self._finish(trial, "FAIL")
            raise

    def _folder(self, number: int) -> Path:
        """Return the folder of a slot; the first one of a candidate holds its config file."""
        folder = self.out / "trials" / f"{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _write_config(self, trial: Any, candidate: int, path: Path) -> bool:
        """Write a candidate that keeps the constraints; False if a sampler's suggestion does not."""
        if self.settings.sampler != "random" and isinstance(self.source, Draws):
            proposal, excess = self.source.suggest(trial, path.parent)
            excess = excess if proposal is None else self._excess(proposal, path.parent)
            if excess:
                trial.set_user_attr(EXCESS, excess)
            else:
                write_text(path, str(proposal))
            return not excess
        for index in range(candidate, MAX_ASKS * self.settings.num_candidates, self.settings.num_candidates):
            text = self.source.text(index, path.parent)
            if isinstance(self.source, Files) or not self._excess(text, path.parent):
                write_text(path, text)
                return True
        raise ConfigError(f"none of {MAX_ASKS} candidates keeps the study's constraints; widen them")

    def _excess(self, text: str, folder: Path) -> float:
        """Return by which share a config breaks the first constraint it does not keep; 0 if it keeps all."""
        limits = (self.settings.max_gflops, self.settings.max_params, self.settings.max_latency_ms)
        if limits == (None, None, None):
            return 0.0
        path = folder / "proposed.py"
        write_text(path, text)
        model = load_config(path).model
        path.unlink()
        measures = [lambda: cost.total_flops(model) / 1e9]
        if limits[1:] != (None, None):
            from mmdet.search.latency import count_params, latency_ms  # torch, onnxruntime

            measures += [lambda: count_params(model), lambda: latency_ms(model)]
        # the dearest last, and only if the others hold
        shares = (measure() / limit - 1 for measure, limit in zip(measures, limits, strict=False) if limit)
        return next((share for share in shares if share > 0), 0.0)

    def _train_and_evaluate(
        self, trial: Any, config: Path, folder: Path, card: int | None, lost: threading.Event
    ) -> tuple[str, Any]:
        """Return the state that the trial ends with, and its value or values."""
        begin = time.monotonic()
        args = ["--seed", str(trial.user_attrs["seed"]), "--resume-from", "auto", *self.settings.train_args]
        args += [] if self.settings.eval_interval else ["--no-validate"]
        options = self._options()
        command = train_command(config, folder / RUN, device=self.device, train_args=args, options=options)
        child = start(tied(command), folder / "train.log", child_env(os.environ, card))
        outcome = self._follow(trial, child, folder / RUN, lost)
        figures = None if outcome else self._evaluate(trial, config, folder, card)
        if figures is None:
            return outcome or "FAIL", None
        trial.set_user_attr("time_s", time.monotonic() - begin)
        value, gflops = figures[self.settings.select_by], cost.total(trial.user_attrs["flops"]) / 1e9
        logger.info("%s: %s %.4f at %.4f GFLOPs", folder.name, self.settings.select_by, value, gflops)
        return "COMPLETE", [value, gflops] if self.settings.sampler == "nsgaii" else value

    def _options(self, report: bool = False) -> list[str]:
        """Return the --cfg-options of a training, or of an evaluation on the config's own test images."""
        options = [*self.settings.options, f"total_epochs={self.settings.epochs}"]
        if self.settings.eval_interval:
            options.append(f"evaluation.interval={self.settings.eval_interval}")
        return options + (self.split.options() if self.split and not report else [])

    def _follow(self, trial: Any, child: Child, run: Path, lost: threading.Event) -> str | None:
        """Wait for a training; return None if it is done, else the state its trial ends with."""
        seen = 0
        while (code := child.wait(POLL_S)) is None:
            if self.stop.is_set() or lost.is_set():
                child.stop()
                return "FAIL"
            points = read_evaluations(run)
            for epoch, figures in points[seen:]:
                if self.settings.sampler != "nsgaii":
                    trial.report(figures[self.settings.select_by], epoch)
            seen = len(points)
            if self.settings.pruner != "none" and seen and trial.should_prune():
                child.stop()
                return "PRUNED"
        if code not in (0, INTERRUPTED):  # one that saved is given back
            trial.set_user_attr(ERROR, f"training ended with exit code {code}; see {child.log_file}")
            logger.warning("%s", trial.user_attrs[ERROR])
        return "FAIL" if code else None

    def _evaluate(self, trial: Any, config: Path, folder: Path, card: int | None) -> dict | None:
        """Evaluate the last checkpoint; also on the config's own test images where a split decides."""
        figures: dict[str, dict] = {}
        for name in ("select", "report") if self.split else ("select",):
            options, checkpoint = self._options(report=name == "report"), folder / RUN / "latest.pth"
            command = eval_command(config, checkpoint, folder / name, device=self.device, options=options)
            child = start(tied(command), folder / f"{name}.log", child_env(os.environ, card))
            while (code := child.wait(POLL_S)) is None and not self.stop.is_set():
                pass
            if code is None:
                child.stop()
                return None
            if code:
                trial.set_user_attr(ERROR, f"evaluation ended with exit code {code}; see {child.log_file}")
                return None
            metrics = read_metrics(folder / name)
            figures[name] = {key: metrics[key] or 0.0 for key in SETTINGS}
        trial.set_user_attr("aps", figures["select"])
        trial.set_user_attr("reported", figures.get("report", figures["select"]))
        trial.set_user_attr("evaluations", read_evaluations(folder / RUN))
        return figures["select"]


def read_evaluations(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Return (epoch, AP figures) of the evaluations of a training, also of its interrupted parts."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(folder.glob("*.log.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if '"AP_hard"' in line:
                record = json.loads(line)
                found[record["epoch"]] = {key: record[key] or 0.0 for key in SETTINGS}
    return sorted(found.items())


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that gets SIGTERM when its starter dies, however it dies."""
    return [sys.executable, "-c", TIED, *command]


@contextmanager
def signs_of_life(trial: Any, interval_s: float) -> Iterator[threading.Event]:
    """Write the time to the trial every interval_s seconds while the block runs.

    Yields an event that is set if another worker has taken this one for dead and ended the trial.
    """
    done, lost = threading.Event(), threading.Event()
    ended = import_optuna().exceptions.UpdateFinishedTrialError

    def beat() -> None:
        while not done.wait(interval_s):
            try:
                trial.set_user_attr(ALIVE, time.time())
            except ended:
                lost.set()
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()
