"""Train and evaluate every entry with every seed, one at a time; what is finished is kept."""

import json
import logging
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.errors import DataError, TrainError
from mmdet.evaluation.run import evaluate_files
from mmdet.files import write_json
from mmdet.launch.jobs import child_env, eval_command, start, train_command
from mmdet.launch.report import read_metrics
from mmdet.race.budget import children_cpu_s, count_epoch, epochs_for_cpu
from mmdet.race.settings import Entry, RaceSettings
from mmdet.search.campaign import tied

logger = logging.getLogger(__name__)

RESULT, PLAN = "result.json", "plan.json"
KEEP_ALL = ("checkpoint_config.interval=1", "checkpoint_config.max_keep_ckpts=-1")


@dataclass(frozen=True)
class Race:
    """A race and where it runs.

    Attributes:
        settings: of the race.
        out: OUT/ENTRY/seed_N/ holds a training, its evaluations and result.json.
        device: kind of device of trainings and evaluations.
    """

    settings: RaceSettings
    out: Path
    device: str = "cpu"

    def run(self) -> None:
        """Run what is not finished, seed by seed, so that entries stay comparable if time runs out.

        Raises:
            TrainError: a training or evaluation failed; its log is named. Runs before it are kept.
        """
        rounds = max(len(self.settings.seeds_of(entry)) for entry in self.settings.parsed)
        for number in range(rounds):
            for entry in self.settings.parsed:
                seeds = self.settings.seeds_of(entry)
                if number < len(seeds):
                    self._run_one(entry, seeds[number])

    def results(self) -> dict[str, list[dict[str, Any]]]:
        """Return the finished runs of each entry that has any."""
        found = {}
        for entry in self.settings.parsed:
            paths = [self._folder(entry, seed) / RESULT for seed in self.settings.seeds_of(entry)]
            found[entry.name] = [json.loads(p.read_text(encoding="utf-8")) for p in paths if p.is_file()]
        return {name: runs for name, runs in found.items() if runs}

    def _folder(self, entry: Entry, seed: int) -> Path:
        return self.out / entry.name / f"seed_{seed}"

    def _run_one(self, entry: Entry, seed: int) -> None:
        folder = self._folder(entry, seed)
        if (folder / RESULT).is_file():
            return
        shutil.rmtree(folder, ignore_errors=True)  # half a training, whose cost is not known
        folder.mkdir(parents=True)
        result = (
            self._race_command(entry, seed, folder)
            if entry.command
            else self._race_config(entry, seed, folder)
        )
        write_json(folder / RESULT, {"entry": entry.name, "seed": seed, **result})
        logger.info("%s, seed %d: %.0f processor seconds", entry.name, seed, result["cpu_s"])

    def _race_config(self, entry: Entry, seed: int, folder: Path) -> dict[str, Any]:
        plan = self._plan(entry)
        args = ["--epochs", f"{plan['epochs']:g}", "--seed", str(seed), "--no-validate", *entry.train_args]
        options = [*self._options(entry), *(KEEP_ALL if self.settings.curves else ())]
        command = train_command(
            Path(entry.config), folder / "run", device=self.device, train_args=args, options=options
        )
        cpu_s = spend(command, folder / "train.log")
        figures = {}
        for test in self.settings.tests:
            figures[test] = self._evaluate(entry, test, folder / "run" / "latest.pth", folder / test)
        curve = self._curve(entry, folder, plan["epochs"]) if self.settings.curves else []
        images = round(plan["epochs"] * plan["images_per_epoch"])
        return {
            "cpu_s": cpu_s,
            "epochs": plan["epochs"],
            "images": images,
            "figures": figures,
            "curve": curve,
        }

    def _curve(self, entry: Entry, folder: Path, epochs: float) -> list[dict[str, Any]]:
        """Return the figures after each epoch but the last; `share` is the part of the run that is done."""
        points = []
        numbers = sorted(
            int(path.stem.removeprefix("epoch_")) for path in (folder / "run").glob("epoch_*.pth")
        )
        for number in [number for number in numbers if number < epochs]:
            checkpoint = folder / "run" / f"epoch_{number}.pth"
            figures = {
                test: self._evaluate(entry, test, checkpoint, folder / f"{test}_{number}")
                for test in self.settings.tests
            }
            points.append({"share": number / epochs, "figures": figures})
        return points

    def _race_command(self, entry: Entry, seed: int, folder: Path) -> dict[str, Any]:
        """Run another program and evaluate what it predicts by our rules."""
        text = entry.command.replace("{seed}", str(seed)).replace("{budget}", f"{self.settings.budget:g}")
        words = shlex.split(text.replace("{out}", shlex.quote(str(folder.resolve()))))
        cpu_s = spend([shutil.which(words[0]) or words[0], *words[1:]], folder / "train.log")
        figures = {
            test: evaluate_files(
                self.settings.test_config,
                folder / "predictions" / test,
                folder / test,
                metrics=self.settings.metrics,
                cfg_options=[*self.settings.options, *about.get("options", ())],
            )
            for test, about in self.settings.tests.items()
        }
        cost = {"cpu_s": cpu_s, "images": None, **_read_cost(folder / "cost.json")}
        return {**cost, "epochs": None, "figures": figures, "curve": []}

    def _plan(self, entry: Entry) -> dict[str, Any]:
        """Return the entry's epochs and the images of one; decided once, for all seeds."""
        path = self.out / entry.name / PLAN
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        iters, images = count_epoch(entry.config, self._options(entry))
        epochs = entry.epochs
        if not epochs and self.settings.budget_images:
            epochs = round(self.settings.budget_images / images, 3)
        elif not epochs:
            epochs = epochs_for_cpu(
                self.settings.budget_cpu_s, iters, lambda out, n: self._time(entry, out, n)
            )
        plan = {"epochs": epochs, "iters_per_epoch": iters, "images_per_epoch": images}
        write_json(path, plan)
        return plan

    def _time(self, entry: Entry, folder: Path, iters: int) -> float:
        args = ["--perf", "--max-iters", str(iters), *entry.train_args]
        command = train_command(
            Path(entry.config), folder, device=self.device, train_args=args, options=self._options(entry)
        )
        return spend(command, self.out / entry.name / "timing.log")

    def _options(self, entry: Entry) -> list[str]:
        return [*self.settings.options, *entry.options]

    def _evaluate(self, entry: Entry, test: str, checkpoint: Path, out: Path) -> dict[str, Any]:
        about = self.settings.tests[test]
        options = [*self._options(entry), *about.get("options", ())]
        args = ["--mode", str(about.get("mode", 0)), "--metric", *self.settings.metrics]
        command = eval_command(
            Path(entry.config), checkpoint, out, device=self.device, eval_args=args, options=options
        )
        spend(command, out.parent / f"{out.name}.log")
        return read_metrics(out)


def _read_cost(path: Path) -> dict[str, Any]:
    """Return what another program says that its training took; nothing where it says nothing."""
    if not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return {"cpu_s": float(said["cpu_s"]), "images": int(said["images"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected cpu_s and images as JSON numbers ({error!r})") from None


def spend(command: list[str], log_file: Path) -> float:
    """Run a command to its end; return the processor seconds of it and its children.

    Raises:
        TrainError: it failed; the log is named.
    """
    before = children_cpu_s()
    child = start(tied(command), log_file, child_env(os.environ))
    try:
        code = child.wait()
    except BaseException:
        child.stop()
        raise
    if code:
        raise TrainError(f"{shlex.join(command)[:200]} ended with exit code {code}; see {log_file}")
    return children_cpu_s() - before
