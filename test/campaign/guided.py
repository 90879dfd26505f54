"""Coverage-guided fuzzing of readers that are Python: labels, options, configs, predictions, descriptions.

    pip install atheris
    python test/campaign/run.py --minutes 20 --only guided
    python test/campaign/guided.py "labels labelv2" 60 0 FOLDER    # one reader, seconds, seed

libFuzzer keeps the inputs that reach new branches of mmdet; half of its changes are those of mutate.py.
"""

import logging
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOUND = 77  # libFuzzer's exit code for an input that raised


def guided(folder: Path, seed: int, limits: tuple[float, int]) -> dict[str, Any]:
    """Fuzz each reader for its share of the seconds; a finding's input stays in build/campaign/guided."""
    if find_spec("atheris") is None:
        return {"skipped": "atheris is not installed", "findings": []}
    from targets import label_targets, text_targets

    names = [*label_targets(), *text_targets()]
    found: dict[str, Any] = {"inputs": {}, "findings": []}
    for name in names:
        seconds = max(1, round(limits[0] / len(names)))
        command = [sys.executable, __file__, name, str(seconds), str(seed), str(folder / name)]
        (folder / name).mkdir()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        executed = [
            line.split()[1] for line in done.stderr.splitlines() if "stat::number_of_executed" in line
        ]
        found["inputs"][name] = int(executed[-1]) if executed else 0
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "Error" in line or "ERROR" in line]
            found["findings"].append(f"{name}: exit {done.returncode}: {(lines or ['?'])[0][:120]}")
    return found


def fuzz_one(name: str, seconds: int, seed: int, folder: Path) -> None:
    """Fuzz one reader in this process, which ends."""
    import atheris

    sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
    with atheris.instrument_imports(include=["mmdet"]):
        from fuzz import _limit_memory, _read
        from targets import label_targets, text_targets

        target = {**label_targets(), **text_targets()}[name]
    path, corpus = folder / "read" / target.place, folder / "corpus"
    path.parent.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)

    logging.disable()

    def one(data: bytes) -> None:
        path.write_bytes(data)
        kind, text = _read(target, path)
        if kind == "unnamed":
            raise RuntimeError(text)

    def change(data: bytes, max_size: int, number: int) -> bytes:
        choose = random.Random(number)
        if choose.random() < 0.5:
            return atheris.Mutate(data, max_size)
        return target.change(data, target.seeds, choose)[:max_size]

    options = [f"-max_total_time={seconds}", f"-seed={seed + 1}", "-timeout=20", "-print_final_stats=1"]
    artifacts = HERE.parents[1] / "build" / "campaign" / "guided"
    artifacts.mkdir(parents=True, exist_ok=True)
    stem = f"-artifact_prefix={artifacts}/{name.replace(' ', '_')}_"
    atheris.Setup([sys.argv[0], *options, stem, "-max_len=65536", str(corpus)], one, custom_mutator=change)
    _limit_memory()
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz_one(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
