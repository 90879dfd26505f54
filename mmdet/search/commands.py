"""The commands of tools/search.py."""

import argparse
import logging
import os
import signal
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmdet.config import load_config
from mmdet.errors import ConfigError, Interrupted
from mmdet.files import write_text
from mmdet.search.campaign import Campaign
from mmdet.search.candidates import Draws, Files
from mmdet.search.rank import certainty, correlations, read_candidates, table
from mmdet.search.sample import SampleSettings
from mmdet.search.settings import read_settings
from mmdet.search.split import Split, make_split
from mmdet.search.study import EXCESS, StudySettings, identity_of, is_dead, open_study


def run(args: argparse.Namespace) -> None:
    """Work with one thread per card until the study is done.

    Raises:
        Interrupted: SIGTERM or SIGINT; trainings were saved and their candidates given back.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings, out = _read(args)
    root = [f"data_root={Path(args.data_root).resolve()}"] if args.data_root else []
    settings = replace(settings, options=(*root, *settings.options))
    source = _source(settings)
    study, split = _open(args, settings, out, source), _split(settings, source, out)
    campaign = Campaign(study, settings, source, out, args.device, split)
    errors: list[BaseException] = []

    def work(card: int) -> None:
        try:
            campaign.run(card)
        except BaseException as error:  # told by the main thread
            errors.append(error)
            campaign.stop.set()

    threads = [threading.Thread(target=work, args=(card,)) for card in parse_cards(args.devices)]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: campaign.stop.set())
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.5)  # so that signals are handled
    if errors:
        raise errors[0]
    if campaign.stop.is_set():
        raise Interrupted("stopped; trainings are saved, `search.py run` continues")
    status(args)


def status(args: argparse.Namespace) -> None:
    """Print how many candidates are in which state."""
    settings, out = _read(args)
    counts: Counter = Counter()
    for trial in _open(args, settings, out).get_trials(deepcopy=False):
        name = trial.state.name.lower()
        if name == "pruned" and EXCESS in trial.user_attrs:
            name = "outside the budget"
        elif name == "running" and is_dead(trial, settings):
            name = "dead"
        counts[name] += 1
    print(f"{counts['complete']} of {settings.num_slots} trainings done; trials: {dict(counts)}")


def best(args: argparse.Namespace) -> None:
    """Print the table and write OUT/best.py and OUT/results.md."""
    settings, out = _read(args)
    key = settings.select_by
    candidates = read_candidates(_open(args, settings, out), key)
    winner = candidates[0]
    text = [table(candidates), f"best: candidate {winner.index}, {key} {winner.mean(key):.4f}"]
    shares = certainty(candidates)
    text.append(
        f"it is the best in {shares[0]:.0%} of bootstrap resamples over its seeds and later evaluations"
        if shares
        else "how certain that is is not known: one value each; use search.num_seeds or search.eval_interval"
    )
    if len(candidates) > 2:
        text += ["rank correlation with the trained AP:", correlations(candidates, key)]
    if settings.search_val:
        text.append(f"on data.test, which did not decide: {winner.reported}")
    base, checkpoint = os.path.relpath(winner.config, out), winner.run / "latest.pth"
    write_text(out / "best.py", f'# Candidate {winner.index}; weights: {checkpoint}\n_base_ = ["{base}"]\n')
    write_text(out / "results.md", "\n\n".join(text) + "\n")
    print(*text, f"config: {out / 'best.py'}, weights: {checkpoint}", sep="\n")


def plot(args: argparse.Namespace) -> None:
    """Write OUT/stages.png and OUT/errors.png."""
    from mmdet.search.plot import plot_errors, plot_stages

    settings, out = _read(args)
    study = _open(args, settings, out)
    candidates = read_candidates(study, settings.select_by)
    plot_stages(candidates, settings.select_by, out / "stages.png")
    aps = {str(study.study_name): [one.mean(settings.select_by) for one in candidates]}
    plot_errors(aps, out / "errors.png")
    print(f"{out / 'stages.png'}, {out / 'errors.png'}")


def parse_cards(text: str) -> list[int]:
    """Turn "0-2,5" into [0, 1, 2, 5].

    Raises:
        ConfigError: it is no such list.
    """
    cards: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            cards += range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise ConfigError(f"--devices {text!r}: write 0-7 or 0,2,3") from error
    if not cards or len(set(cards)) != len(cards):
        raise ConfigError(f"--devices {text!r}: names no card, or one twice")
    return cards


def _read(args: argparse.Namespace) -> tuple[StudySettings, Path]:
    changes = [*args.cfg_options, *([f"search.epochs={args.epochs}"] if args.epochs else [])]
    settings = read_settings(args.study, StudySettings, changes)
    return settings, Path(args.out or Path("work_dirs") / Path(args.study).stem).resolve()


def _open(args: argparse.Namespace, settings: StudySettings, out: Path, source: Any = None) -> Any:
    out.mkdir(parents=True, exist_ok=True)
    url = args.storage or f"sqlite:///{out / 'study.db'}"
    identity = identity_of(settings, source) if source else None
    return open_study(args.name or Path(args.study).stem, url, settings, identity)


def _source(settings: StudySettings) -> Files | Draws:
    if settings.configs:
        return Files.find(settings.configs, settings.num_candidates)
    search = read_settings(settings.search, SampleSettings)
    return Draws(search, settings.mode, settings.base or search.base, settings.seed)


def _split(settings: StudySettings, source: Files | Draws, out: Path) -> Split | None:
    if not settings.search_val:
        return None
    train = load_config(source.base, settings.options).data.train
    return make_split(train["ann_file"], train["img_prefix"], settings.search_val, out / "split")
