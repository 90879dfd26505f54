"""A DDSAR search from its settings to its files; `--resume` continues exactly."""

import dataclasses
import json
import logging
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from mmdet.errors import ConfigError, unknown_name
from mmdet.files import write_text
from mmdet.models.plainnet.cost import Variant, count_flops, count_size
from mmdet.models.plainnet.structure import Structure, count_layers, stage_outputs, to_string
from mmdet.search.evolve import LOG_INTERVAL, DdsarSettings, Evolution, Score
from mmdet.search.score import ddsar
from mmdet.search.settings import check_same

logger = logging.getLogger(__name__)

PROXIES = ("gradnorm", "syncflow", "naswot", "zen", "te-nas")  # of proxies.py, which needs torch
SCORES = ("ddsar", *PROXIES, "flops", "params", "random")
SAVE_SECONDS = 30
STATE = "state.json"
WITHOUT_SHORTCUT = Variant(shortcut=False)  # as every published score sees a network


@dataclasses.dataclass(frozen=True)
class DdsarOptions:
    """The command line: what is searched, where to, and how it is carried out."""

    name: str
    out: Path
    seed: int = 0
    score: str = "ddsar"
    workers: int = 1
    device: str = "cpu"
    reference_rules: bool = False
    resume: bool = False


def make_score(options: DdsarOptions, settings: DdsarSettings) -> Score:
    """Return the function from a structure to its score; it can be sent to another process.

    Raises:
        ConfigError: unknown score.
    """
    if options.score not in SCORES:
        raise ConfigError(unknown_name("--score", options.score, SCORES))
    if options.score in PROXIES:
        from mmdet.search import proxies  # torch

        sizes = (settings.side, settings.batch_size, settings.num_classes)
        chosen = proxies.ProxySettings(*sizes, seed=options.seed, device=options.device)
        return partial(proxies.score, options.score, settings=chosen)
    cheap: dict[str, Score] = {
        "ddsar": partial(ddsar, side=settings.side, alpha=settings.alpha),
        "flops": partial(count_flops, side=settings.side, variant=WITHOUT_SHORTCUT),
        "params": partial(count_size, variant=WITHOUT_SHORTCUT, num_classes=settings.num_classes),
        "random": partial(_random_score, options.seed),
    }
    return cheap[options.score]


def run_ddsar(settings: DdsarSettings, options: DdsarOptions) -> Evolution:
    """Search, or continue, and write the files of `write_results` into options.out.

    Raises:
        ConfigError: options.out holds a search and resume is off, or another one; nothing meets the budgets.
    """
    rng = random.Random(options.seed)
    evolution = Evolution(settings, make_score(options, settings), rng, options.reference_rules)
    if settings.budget_latency is not None:
        from mmdet.search.latency import backbone_latency  # torch, onnxruntime

        evolution.latency = partial(backbone_latency, side=settings.side)
    identity = _identity(settings, options)
    _open_folder(options, evolution, identity)

    def save() -> None:
        write_text(options.out / STATE, json.dumps({"identity": identity, **evolution.state()}))

    saved = time.monotonic()
    with ExitStack() as stack:
        score_all: Callable | None = None
        if options.workers > 1:
            pool = ProcessPoolExecutor(options.workers, mp_context=get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            score_all = partial(pool.map, evolution.score)
        while evolution.round < settings.rounds:
            evolution.run(min(LOG_INTERVAL, settings.rounds - evolution.round), score_all, options.workers)
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
    evolution.best()  # raises before anything is written if there is none
    save()
    write_results(evolution, options)
    return evolution


def write_results(evolution: Evolution, options: DdsarOptions) -> None:
    """Write best_structure.txt, population.csv, evolution_search.log, a config file, and evolution.png."""
    best, out, side = evolution.best(), options.out, evolution.settings.side
    write_text(out / "best_structure.txt", to_string(best.structure) + "\n")
    rows = ["score,layers,params,flops,structure"]
    for score, structure in sorted(evolution.members, key=lambda member: -member.score):
        size, flops = count_size(structure), count_flops(structure, side)
        rows.append(f'{score!r},{count_layers(structure)},{size},{flops:.0f},"{to_string(structure)}"')
    write_text(out / "population.csv", "\n".join(rows) + "\n")
    log = [f"round={r} best={b:.6g} worst={w:.6g} members={n}\n" for r, b, w, n in evolution.history]
    write_text(out / "evolution_search.log", "".join(log))
    mflops = count_flops(best.structure, side) / 1e6
    name = f"{options.name}_seed{options.seed}"
    about = f"{name}: {options.score} {best.score:.6g}, {mflops:.1f} MFLOPs at {side}x{side}"
    write_text(out / f"{name}.py", model_config(best.structure, evolution.settings.base, out, about))
    try:
        from mmdet.search.plot import plot_evolution
    except ImportError as error:
        logger.warning("no evolution.png: %s", error)
    else:
        plot_evolution(evolution.history, out / "evolution.png", options.score)


def model_config(structure: Structure, base: str, folder: Path, about: str) -> str:
    """Return a config file for `folder` that is `base` with this backbone."""
    channels = [structure[index].out_channels for index in stage_outputs(structure).values()]
    blocks = "".join(f'            "{block}"\n' for block in structure)
    return (
        f"# {about}\n"
        f'_base_ = ["{os.path.relpath(base, folder)}"]\n'
        'model = dict(\n    backbone=dict(\n        _delete_=True,\n        type="MasterNet",\n'
        f"        plainnet_struct=(\n{blocks}        ),\n    ),\n"
        f"    neck=dict(in_channels={channels}),\n)\n"
    )


def _random_score(seed: int, structure: Structure) -> float:
    return random.Random(f"{seed} {to_string(structure)}").gauss(0, 1)


def _identity(settings: DdsarSettings, options: DdsarOptions) -> dict:
    """Return what must be equal for a search to be continued; more rounds may be asked for."""
    values = {**dataclasses.asdict(settings), "base": Path(settings.base).name}
    del values["rounds"]
    values["workers"] = options.workers if options.workers > 1 else None  # children of a batch share parents
    return values | {name: getattr(options, name) for name in ("seed", "score", "reference_rules")}


def _open_folder(options: DdsarOptions, evolution: Evolution, identity: dict) -> None:
    """Make the folder, or load the search it holds."""
    path = options.out / STATE
    if not path.exists():
        options.out.mkdir(parents=True, exist_ok=True)
        return
    if not options.resume:
        raise ConfigError(f"{options.out} holds a search; continue it with --resume, or choose another --out")
    saved = json.loads(path.read_text())
    check_same(saved["identity"], identity, f"the search in {options.out}", "choose another --out")
    evolution.restore(saved)
