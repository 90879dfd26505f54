"""The Docker files name what is there: paths, versions, extras, the command. Nothing is built."""

import json
import re

import pytest

FILES = ("docker/Dockerfile", "docker/ascend.Dockerfile")


def read(repo, name):
    """Return the instructions of a Docker file as (word, rest), continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (repo / name).read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]


def arguments(instructions):
    return dict(rest.split("=", 1) for word, rest in instructions if word == "ARG")


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_exists_and_is_sent_to_the_builder(repo, name):
    sent = {line[1:] for line in (repo / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {path for word, rest in read(repo, name) if word == "COPY" for path in rest.split()[:-1]}
    assert copied == sent and all((repo / path).exists() for path in copied)


@pytest.mark.parametrize("name", FILES)
def test_extras_and_the_command_exist(repo, name):
    setup = (repo / "setup.py").read_text()
    instructions = read(repo, name)
    (extra,) = re.findall(r'"/src\[(\w+)\]"', " ".join(rest for _, rest in instructions))
    assert re.search(rf'^        "{extra}": ', setup, re.MULTILINE)
    word, rest = instructions[-1]
    assert word == "ENTRYPOINT" and "scrfd" in json.loads(rest) and '"scrfd = mmdet.' in setup
    assert {word for word, _ in instructions} <= {"ARG", "FROM", "RUN", "COPY", "WORKDIR", "ENTRYPOINT"}


def test_versions_are_those_of_the_makefile_and_the_table_of_cann(repo):
    pinned = re.search(r"^TORCH \?= torch==(\S+)$", (repo / "Makefile").read_text(), re.MULTILINE)[1]
    assert arguments(read(repo, FILES[0]))["TORCH"] == pinned
    ascend = arguments(read(repo, FILES[1]))
    rows = dict(
        re.findall(r"^\| ([\d.]+) \| (2\..+?) \|$", (repo / "docs/ascend.md").read_text(), re.MULTILINE)
    )
    assert ascend["TORCH"] in rows[ascend["CANN"]].split(", ")
