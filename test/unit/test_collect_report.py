"""tools/collect_report.py: one file with versions, figures and log."""

import json
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def collect(*args):
    command = [sys.executable, str(REPO / "tools/collect_report.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def make_run(folder, num_lines):
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"fps": 12.5, "device": "npu", "AP_hard": 0.8}))
    (folder / "tiny.py").write_text("model = dict()\n")
    (folder / "a.log.json").write_text("".join(f'{{"iter": {i}}}\n' for i in range(num_lines)))
    return folder


def test_the_report_holds_versions_figures_and_both_ends_of_the_log(tmp_path):
    run = make_run(tmp_path / "run", num_lines=120)
    done = collect(run, "--out", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    assert "run: 12.5 img/s on npu; AP easy None, medium None, hard 0.8" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert "torch" in report["system"]["packages"]
    (kept,) = report["runs"]
    assert kept["config"] == {"tiny.py": "model = dict()\n"}
    assert kept["num_log_lines"] == 120
    assert kept["log_start"][0] == '{"iter": 0}' and kept["log_end"][-1] == '{"iter": 119}'
    assert len(kept["log_start"]) == len(kept["log_end"]) == 50


def test_a_short_log_is_not_repeated(tmp_path):
    run = make_run(tmp_path / "run", num_lines=3)
    collect(run, "--out", tmp_path / "report.json")
    (kept,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert (len(kept["log_start"]), len(kept["log_end"])) == (3, 0)


def test_a_folder_without_figures_is_refused(tmp_path):
    done = collect(tmp_path, "--out", tmp_path / "report.json")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"ConfigError: no metrics.json in {tmp_path}; a run writes it when it ends"
    )
    assert not (tmp_path / "report.json").exists()
