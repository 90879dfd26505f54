"""--safe: config files as literals, and nothing that runs or grows."""

import subprocess
import sys

import pytest

from mmdet.config import load_config
from mmdet.config.literals import SAFE, merge
from mmdet.config.pyfile import _execute, read_file
from mmdet.errors import ConfigError

# Tools that take a config file, or a file that names one.
TOOLS = (
    "train test_widerface scrfd2onnx npu_audit browse_dataset print_config get_flops scaling_model "
    "check_dataset card_report "
    "convert_weights image_demo webcam_demo retinaface generate_configs ddsar_search"
).split()


@pytest.fixture
def safe(monkeypatch):
    monkeypatch.setenv(SAFE, "1")


@pytest.fixture
def write(tmp_path):
    def run(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return run


def test_literals_are_read(safe, write):
    text = '"""Words."""\nb = "x/"\na = dict(c=[1, -2.5, (None, True)], d={"e f": +3}, g=b)\n_own = 1\n'
    path = write("a.py", text)
    assert read_file(path) == {"b": "x/", "a": {"c": [1, -2.5, (None, True)], "d": {"e f": 3}, "g": "x/"}}


def test_parts_of_bases_are_chosen(safe, write):
    write("b.py", "a = dict(b=[1, 2, 3])\n")
    text = "_base_ = 'b.py'\n_b = _base_.a.b\nc = [*_b[:2], _b[-1], *_b]\na = dict(_delete_=True)\n"
    assert read_file(write("a.py", text)) == {"a": {}, "c": [1, 2, 3, 1, 2, 3]}


@pytest.mark.parametrize(
    "statement",
    [
        "import os",
        "a = open('victim')",
        "a = [x for x in (1, 2)]",
        "a = 2 ** 99",
        "a = 'x' * 10",
        "a = dict([1])",
        "a = dict(**{'b': 1})",
        "a = {**{}}",
        "a = f'{1}'",
        "a = b",
        "a = _base_.x",
        "a = [*7]",
        "a = ok[0]",
        "a = ok.real",
        "a = _base_[print('x')]",
        "a, b = 1, 2",
        "a.b = 1",
        "a: int = 1",
        "a += 1",
        "del a",
        "if True:\n    a = 1",
        "def f(): pass",
        "a = lambda: 1",
        "a = -'x'",
        "a = b'x'",
        "a = 1j",
        "a = ...",
        "a = {1, 2}",
        "print('x')",
    ],
)
def test_anything_computed_is_refused_by_line(safe, write, statement):
    path = write("a.py", f"ok = 1\n{statement}\n")
    with pytest.raises(ConfigError, match=r"a\.py:2: .*literals only"):
        read_file(path)


def test_nothing_runs_in_a_base_or_through_imports(safe, write, tmp_path):
    write("evil.py", f"a = open({str(tmp_path / 'victim')!r}, 'w')\n")
    for name, text in (("a.json", '{"_base_": "evil.py"}'), ("a.yaml", "_base_: evil.py\n")):
        with pytest.raises(ConfigError, match=r"evil\.py:1"):
            read_file(write(name, text))
    assert not (tmp_path / "victim").exists()
    with pytest.raises(ConfigError, match="custom_imports runs the code"):
        load_config(write("b.json", '{"model": {"type": "SCRFD"}, "custom_imports": {"imports": ["this"]}}'))


@pytest.mark.slow
def test_every_config_of_ours_is_read_as_mmengine_does(repo, monkeypatch):
    paths = [path for path in sorted((repo / "configs").rglob("*.py")) if path.parent.name != "races"]
    assert len(paths) > 40
    for path in paths:
        executed = {key: value for key, value in _execute(str(path)).items() if not key.startswith("_")}
        for is_safe in ("", "1"):
            monkeypatch.setenv(SAFE, is_safe)
            assert read_file(path) == executed, path


def test_literals_need_no_mmengine_and_what_it_fills_in_or_refuses_is_left_to_it(write, monkeypatch):
    assert read_file(write("a.py", "a = '{{ fileBasename }}'\n")) == {"a": "a.py"}
    with pytest.raises(ConfigError, match="text is reserved"):
        read_file(write("b.py", "text = 1\n"))
    monkeypatch.delattr("mmdet.config.pyfile._execute")
    assert read_file(write("c.py", "a = dict(b=[1])\n")) == {"a": {"b": [1]}}


def test_merging_by_hand(safe, write):
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    over = {"a": {"c": {"_delete_": True, "x": 1}}, "e": [2], "f": {"_delete_": True, "g": 1}}
    assert merge(over, base, "x.py") == {"a": {"b": 1, "c": {"x": 1}}, "e": [2], "f": over["f"]}
    with pytest.raises(ConfigError, match=r"x\.py: e is a dict, but \[1\] in a base; _delete_=True"):
        merge({"e": {"a": 1}}, base, "x.py")
    write("b.py", "a = 1\n")
    with pytest.raises(ConfigError, match="Duplicate keys in its bases: a"):
        read_file(write("a.py", "_base_ = ['b.py', 'b.py']\n"))
    for base in ("['mmdet::a.py']", "[1]"):
        with pytest.raises(ConfigError, match="is no file name"):
            read_file(write("c.py", f"_base_ = {base}\n"))


@pytest.mark.parametrize("is_safe", ["", "1"])
def test_a_pyramid_of_bases_ends(write, monkeypatch, is_safe):
    monkeypatch.setenv(SAFE, is_safe)
    write("b0.py", "_x = 1\n")
    for level in range(1, 20):
        write(f"b{level}.py", f"_base_ = ['b{level - 1}.py'] * 20\n".replace("* 20", "+ []"))
        write(f"b{level}.json", f'{{"_base_": {[f"b{level - 1}.json"] * 20}}}'.replace("'", '"'))
    write("b0.json", "{}")
    with pytest.raises(ConfigError, match="more than 100 base files"):
        read_file(write("a.json", '{"_base_": "b19.json"}'))


@pytest.mark.parametrize("form", ["a{0} = [{1}]", "a{0} = [*{1}, *a0]"])
def test_values_that_share_parts_do_not_grow(safe, write, form):
    lines = ["a0 = [1, 1]"]
    for level in range(1, 12):
        lines.append(form.format(level, (", *" if "*" in form else ", ").join([f"a{level - 1}"] * 10)))
    with pytest.raises(ConfigError, match="more than|literals only"):
        read_file(write("a.py", "\n".join(lines) + "\n"))


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_with_a_config_has_the_option(repo, tool):
    paths = [repo / folder / f"{tool}.py" for folder in ("mmdet/commands", "tools")]
    text = next(path for path in paths if path.exists()).read_text()
    assert "add_config(parser" in text or 'add_shared(parser, "--safe")' in text


def test_the_option_reaches_the_reader(repo, write):
    path = write("a.py", "a = open('x')\n")
    command = [sys.executable, "tools/print_config.py", str(path), "--safe"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "open('x')\" is computed" in done.stderr
