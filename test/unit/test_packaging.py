"""What makes the tree installable and publishable."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

URL = re.compile(r"https?://[^\s|)\]}>'\"`，。；]+|[\w.+-]+@[\w-]+\.\w[\w.]*")


def tracked_text_files(repo: Path) -> dict[str, str]:
    """Return {path: text} of the files git tracks or would track; skip without git."""
    command = ["git", "-C", str(repo), "ls-files", "-co", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    texts = {}
    for name in done.stdout.splitlines():
        try:
            texts[name] = (repo / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
    return texts


def test_public_address_statement_lists_exactly_the_addresses_of_the_tree(repo):
    name = "public_address_statement.md"
    texts = tracked_text_files(repo)
    header, _, *rows = (
        line for line in (repo / name).read_text(encoding="utf-8").splitlines() if "|" in line
    )
    columns = ["类型", "开源代码地址", "文件名", "公网IP地址/公网URL地址/域名/邮箱地址", "用途说明"]
    assert [cell.strip() for cell in header.strip("| ").split("|")] == columns
    cells = [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows]
    assert all(len(row) == 5 and all(row) and row[0] in ("开源代码引入", "开发引入") for row in cells)
    stated = {(row[2], row[3]) for row in cells}
    found = {
        (path, match.rstrip(".,;:"))
        for path, text in texts.items()
        if path not in (name, "test/unit/test_packaging.py")
        for match in URL.findall(text)
    }
    assert stated - found == set(), f"listed in {name} but not in the tree"
    assert found - stated == set(), f"in the tree but not listed in {name}"


def test_setup_installs_what_requirements_list(repo):
    query = [sys.executable, "setup.py", "-q", "--name", "--version"]
    done = subprocess.run(query, cwd=repo, capture_output=True, text=True, timeout=60)
    name, version = done.stdout.split()
    assert name == "scrfd-trainer" and re.fullmatch(r"\d+\.\d+\.\d+", version), done.stderr
    names = {
        re.split(r"[<>=]", line)[0]
        for line in (repo / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert {"torch", "numpy", "opencv-python-headless", "scipy", "pycocotools", "mmengine-lite"} <= names
    assert "read_requirements()" in (repo / "setup.py").read_text()
    assert not names & {"mmcv", "mmcv-full", "mmengine", "opencv-python", "apex", "torchvision"}


def test_importing_beside_another_mmdet_is_refused(repo, tmp_path):
    info = tmp_path / "mmdet-2.28.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmdet\nVersion: 2.28.0\n")
    code = f"import sys; sys.path[:0] = [{str(repo)!r}, {str(tmp_path)!r}]; import mmdet"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 1
    assert (
        "mmdet 2.28.0 of another project is installed" in done.stderr and "pip uninstall mmdet" in done.stderr
    )


def test_importing_the_package_loads_nothing_heavy(repo):
    code = "import sys, mmdet; print(sorted({'torch', 'numpy', 'cv2', 'mmengine'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repo, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_licence_is_apache_2(repo):
    text = (repo / "LICENSE").read_text()
    assert (
        text.split()[:4] == ["Apache", "License", "Version", "2.0,"] and "END OF TERMS AND CONDITIONS" in text
    )


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("setuptools"), reason="setuptools is not installed")
def test_a_wheel_holds_the_command_configs_and_hints(repo, tmp_path):
    """Built from a copy: setuptools leaves build/ behind. Unpacked, it runs away from the checkout."""
    for name in ("mmdet", "configs"):
        shutil.copytree(repo / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(repo / name, tmp_path / name)
    pip = [sys.executable, "-m", "pip", "-q", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", "dist"], cwd=tmp_path, check=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    away = tmp_path / "away"
    shutil.unpack_archive(wheel, away, "zip")
    (info,) = away.glob("*.dist-info")
    assert "scrfd = mmdet.commands.main:main" in (info / "entry_points.txt").read_text()
    assert (away / "mmdet/py.typed").is_file() and (away / "mmdet/deploy/web/index.html").is_file()
    shipped = {path.relative_to(away / "mmdet") for path in (away / "mmdet/configs").rglob("*.py")}
    assert shipped == {path.relative_to(repo) for path in (repo / "configs").rglob("*.py")}
    code = (
        f"import sys; sys.path[:0] = [{str(away)!r}]; from mmdet.commands.main import run; run(sys.argv[1:])"
    )
    for words in (["config", "configs/scrfd/scrfd_500m.py"], ["config", "scrfd_500m"]):
        command = [sys.executable, "-I", "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=away, timeout=60)
        assert "MobileNetV1" in done.stdout, done.stderr
