"""tools/scrfd.py: what it overwrites and what it does not, and what an unfinished run leaves."""

import json
import os

import cv2
import numpy as np
import pytest

from mmdet.deploy.cli import run as run_module
from mmdet.deploy.cli import video
from mmdet.evaluation import read_predictions


def save(path, *squares, hw=(64, 64)):
    """Write black pixels with white squares (x, y, side)."""
    image = np.zeros((*hw, 3), np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def save_film(path, num=3, gray=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    fourcc = cv2.VideoWriter_fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), fourcc, 10.0, (64, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write video")
    for _ in range(num):
        writer.write(np.full((64, 64, 3), gray, np.uint8))
    writer.release()
    return path


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def one_line(result, message):
    code, out, err = result
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and message in err, err


@pytest.mark.parametrize("link", [False, True])
def test_drawing_never_overwrites_an_input(run_tool, spots, tmp_path, link):
    own = tmp_path / "own"
    save(own / "a.jpg", (8, 8, 16))
    save(own / "sub/b.png", (8, 8, 16))
    before = content(own)
    out = own
    if link:  # another folder, in which one of the results' names leads to the input
        out = tmp_path / "out"
        out.mkdir()
        (out / "a.jpg").symlink_to(own / "a.jpg")
    result = run_tool("scrfd", spots, own, "--out", out, "--draw")
    one_line(result, "would overwrite the input")
    assert content(own) == before


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("a.jpg", "crops/a.jpg_7.jpg", ["--crop"]),
        ("film.avi", "film.avi_000002.txt", ["--format", "txt"]),
        ("film.avi", "crops/film.avi_000000_1.jpg", ["--crop"]),
    ],
)
def test_no_file_of_a_numbered_row_is_replaced(run_tool, spots, tmp_path, name, theirs, options):
    source = tmp_path / "in" / name
    _ = save_film(source, gray=0) if name == "film.avi" else save(source)
    out = tmp_path / "out"
    for path in (out / theirs, out / "crops/a.jpg_x.jpg", out / "film.avi.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    one_line(run_tool("scrfd", spots, source, "--out", out, *options), f"{theirs} exists; give another name")
    assert (out / theirs).read_bytes() == b"mine"
    assert run_tool("scrfd", spots, source, "--out", out, "--overwrite", *options)[0] == 0


def test_a_crop_never_replaces_an_input(run_tool, spots, tmp_path):
    source = save(tmp_path / "a.jpg", (8, 8, 16))
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops/a.jpg_1.jpg").symlink_to(source)
    args = ("scrfd", spots, source, "--out", tmp_path, "--crop", "--overwrite")
    one_line(run_tool(*args), "would overwrite the input")


def test_an_existing_file_is_replaced_only_when_asked(run_tool, spots, tmp_path):
    """A folder of pictures with labels in EVENT/NAME.txt, where the WIDER FACE results would lie."""
    save(tmp_path / "own/ev/a.jpg")
    label = tmp_path / "own/ev/a.txt"
    label.write_text("0 0.5 0.5 0.1 0.1\n")
    args = ("scrfd", spots, tmp_path / "own", "--out", tmp_path / "own", "--format", "widerface")
    one_line(run_tool(*args), "ev/a.txt exists; give another name, or --overwrite to replace it")
    assert label.read_text() == "0 0.5 0.5 0.1 0.1\n"
    (tmp_path / "out").mkdir()
    photo = save(tmp_path / "out/ev/a.jpg", (0, 0, 9))
    before = photo.read_bytes()
    args = ("scrfd", spots, tmp_path / "own", "--out", tmp_path / "out", "--draw")
    one_line(run_tool(*args), "ev/a.jpg exists")
    assert photo.read_bytes() == before
    assert run_tool(*args, "--overwrite")[0] == 0 and photo.read_bytes() != before


@pytest.mark.parametrize("file_format", ["json", "txt", "widerface"])
def test_a_second_run_replaces_the_first_and_does_not_read_it(run_tool, spots, tmp_path, file_format):
    own = tmp_path / "own"
    save(own / "a.jpg", (8, 8, 16))
    save(own / "b.png")
    save_film(own / "film.mp4", gray=0)
    args = ("scrfd", spots, own, "--out", own / "results", "--draw", "--format", file_format, "--thr", 0.9)
    code, _, err = run_tool(*args)
    assert code == 0 and "5 pictures" in err, err
    first = content(own)
    one_line(run_tool(*args), "exists; give another name, or --overwrite")
    code, _, err = run_tool(*args, "--overwrite")
    assert code == 0 and "5 pictures" in err and "left out 3 below" in err, err
    assert content(own).keys() == first.keys()
    assert "skipped" not in err


def test_results_beside_the_pictures(run_tool, spots, tmp_path):
    """--out is the folder itself: what was drawn there is an input of a second run, and stays as it is."""
    save(tmp_path / "a.png", (8, 8, 16))
    args = ("scrfd", spots, tmp_path, "--out", tmp_path, "--draw")
    assert run_tool(*args)[0] == 0
    before = content(tmp_path)
    assert sorted(before) == ["a.png", "a.png.jpg", "detections.jsonl"]
    one_line(run_tool(*args, "--overwrite"), "would both give")
    assert content(tmp_path) == before


def test_the_whole_input_is_below_out(run_tool, spots, tmp_path):
    save(tmp_path / "in/sub/a.png")
    (tmp_path / "in/notes").mkdir()
    result = run_tool("scrfd", spots, tmp_path / "in", "--out", tmp_path / "in/sub")
    one_line(result, "no picture and no video")
    assert "1 below" in result[2]


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["txt", "widerface"])
def test_videos_of_the_same_name(run_tool, spots, tmp_path, file_format):
    films = [
        save_film(tmp_path / name, n) for name, n in (("a/film.mp4", 1), ("b/film.mp4", 2), ("a/film.avi", 3))
    ]
    out = tmp_path / "out"
    code, _, err = run_tool("scrfd", spots, *films, "--out", out, "--draw", "--format", file_format)
    assert code == 0 and "6 pictures" in err, err
    assert len(list(out.rglob("*.txt"))) == 6
    videos = {str(p.relative_to(out)): cv2.VideoCapture(str(p)) for p in out.rglob("*.mp4")}
    assert {name: video.get(cv2.CAP_PROP_FRAME_COUNT) for name, video in videos.items()} == {
        "a/film.mp4_faces.mp4": 1,
        "b/film_faces.mp4": 2,
        "a/film.avi_faces.mp4": 3,
    }


def test_two_pictures_with_one_widerface_name(run_tool, spots, tmp_path):
    paths = [save(tmp_path / name) for name in ("in/ev/x.jpg", "in/ev/x.png")]
    args = ("scrfd", spots, tmp_path / "in", "--out", tmp_path / "out", "--format")
    result = run_tool(*args, "widerface")
    one_line(result, f"{paths[0]} and {paths[1]} would both give")
    assert not (tmp_path / "out").exists()
    assert run_tool(*args, "txt")[0] == 0


@pytest.mark.parametrize("file_format", ["json", "txt", "widerface"])
def test_a_name_that_is_not_utf8(run_tool, spots, tmp_path, file_format):
    (tmp_path / "in/ev").mkdir(parents=True)
    for name in (b"bad\xff.jpg", b"bad\xff.mp4"):  # OpenCV would crash on the video's name
        with open(os.fsencode(tmp_path / "in/ev") + b"/" + name, "wb") as file:
            file.write(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    out = tmp_path / "out"
    code, _, err = run_tool("scrfd", spots, tmp_path / "in", "--out", out, "--draw", "--format", file_format)
    assert code == 0 and "1 pictures" in err and "rename it" in err and "Traceback" not in err, err
    assert os.path.isfile(os.fsencode(out) + b"/ev/bad\xff.jpg")
    if file_format == "widerface":
        assert list(read_predictions(out)["ev"]) == [os.fsdecode(b"bad\xff")]


def test_a_run_that_fails_leaves_earlier_results_and_no_folder(run_tool, spots, tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_text("text")
    out = tmp_path / "out"
    for args in (["a.png", "--input-size", -640, 640], ["bad.png"], ["a.png", "--max-num", -1]):
        one_line(run_tool("scrfd", spots, tmp_path / args[0], "--out", out, *args[1:], "--quiet"), "Error: ")
        assert not out.exists()
    assert run_tool("scrfd", spots, tmp_path / "a.png", "--out", out)[0] == 0
    before = content(out)
    one_line(
        run_tool("scrfd", spots, tmp_path / "a.png", "--out", out, "--overwrite", "--input-size", -640, 640),
        "positive",
    )
    assert run_tool("scrfd", spots, tmp_path / "bad.png", "--out", out, "--overwrite")[0] == 2
    assert content(out) == before and list(before) == ["detections.jsonl"]


def interrupt_after(monkeypatch, num):
    real = run_module.detect_stream

    def stream(*args):
        for number, result in enumerate(real(*args)):
            if number == num:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(run_module, "detect_stream", stream)


@pytest.mark.parametrize("quiet", [False, True])
def test_ctrl_c_on_a_folder(run_tool, spots, tmp_path, monkeypatch, quiet):
    """Exit code 130; an earlier result stays, and what was found is beside it."""
    for number in range(5):
        save(tmp_path / f"in/{number}.png")
    out = tmp_path / "out"
    args = ("scrfd", spots, tmp_path / "in", "--out", out, *(["--quiet"] if quiet else []))
    assert run_tool(*args)[0] == 0
    before = (out / "detections.jsonl").read_bytes()
    interrupt_after(monkeypatch, 2)
    code, _, err = run_tool(*args, "--overwrite")
    part = out / "detections.part.jsonl"
    assert code == 130 and err.splitlines()[-1] == f"stopped after 2 of 5; what was found is in {part}"
    assert (out / "detections.jsonl").read_bytes() == before
    assert [json.loads(line)["image"] for line in part.read_text().splitlines()] == [
        str(tmp_path / "in/0.png"),
        str(tmp_path / "in/1.png"),
    ]


def test_a_video_that_was_interrupted_is_no_result(run_tool, spots, tmp_path, monkeypatch):
    film = save_film(tmp_path / "film.avi", 4)
    interrupt_after(monkeypatch, 2)
    code, _, err = run_tool("scrfd", spots, film, "--out", tmp_path / "out", "--draw")
    assert code == 130 and "film_faces.part.mp4" in err
    assert sorted(content(tmp_path / "out")) == ["detections.part.jsonl", "film_faces.part.mp4"]


@pytest.mark.slow
def test_a_full_disk_leaves_no_film(run_tool, spots, tmp_path, monkeypatch):
    """OpenCV drops what the disk does not take and says nothing; the file is read again to see it."""
    film = save_film(tmp_path / "film.avi", 4)
    real = video.cv2.VideoWriter

    class Full:
        def __init__(self, path, *args):
            self.path, self.inner = path, real(path, *args)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def release(self):
            self.inner.release()
            with open(self.path, "r+b") as file:
                file.truncate(100)

    monkeypatch.setattr(video.cv2, "VideoWriter", Full)
    out = tmp_path / "out"
    one_line(run_tool("scrfd", spots, film, "--out", out, "--draw", "--quiet"), "is the disk full?")
    assert list(content(out)) == ["detections.jsonl"]
