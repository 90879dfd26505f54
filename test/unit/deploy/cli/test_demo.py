"""tools/image_demo.py and tools/webcam_demo.py on real weights and photographs, and their mistakes."""

import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mmdet.deploy import Faces
from mmdet.deploy.cli.demo import load_finder, show_video
from mmdet.errors import CheckpointError, ConfigError, DataError, DeviceError, WriteError

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"
GREEN = (60, 220, 80)  # draw.py CLASS_COLORS[0], BGR


def find_one(image):
    """Find one face, always at the same place."""
    return Faces(np.array([[20, 30, 80, 90, 0.9]], np.float32), None, np.zeros(1, np.int64))


@pytest.fixture
def film(tmp_path):
    """Return a film of 5 gray frames, 10 per second."""
    writer = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (160, 120))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no mp4")
    for _ in range(5):
        writer.write(np.full((120, 160, 3), 128, np.uint8))
    writer.release()
    return tmp_path / "in.mp4"


def test_film_to_film(film, tmp_path):
    assert show_video(find_one, ("face",), str(film), tmp_path / "out.mp4") == 5
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    frames = [frame for is_read, frame in (capture.read() for _ in range(6)) if is_read]
    assert len(frames) == 5
    for frame in frames:
        assert (
            np.abs(frame[60, 78:83].astype(int) - GREEN).max(axis=-1).min() < 60
        )  # the right side of the box
        assert np.abs(frame[60, 50].astype(int) - 128).max() < 20  # its inside
    assert show_video(find_one, ("face",), str(film), tmp_path / "two.mp4", max_frames=2) == 2


def test_video_mistakes(film, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mmdet.deploy.cli.demo.sys.platform", "linux")
    with pytest.raises(ConfigError, match="no window can be opened .* --out F.mp4"):
        show_video(find_one, ("face",), str(film), None)
    with pytest.raises(ConfigError, match="--max-frames -4: give 0 or more"):
        show_video(find_one, ("face",), str(film), tmp_path / "a.mp4", max_frames=-4)
    with pytest.raises(WriteError, match="a.mp4 cannot be written: No such file or directory"):
        show_video(find_one, ("face",), str(film), tmp_path / "none" / "a.mp4")
    with pytest.raises(DataError, match="none.mp4: cannot be opened, or holds no frame"):
        show_video(find_one, ("face",), str(tmp_path / "none.mp4"), tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        (("a.onnx", "b.pth", 0.5), ConfigError, "a.onnx holds its weights; leave out b.pth"),
        ((CONFIG, None, 0.5), ConfigError, "give CONFIG CHECKPOINT, or MODEL.onnx"),
        (("b.pth", CONFIG, 0.5), ConfigError, "b.pth holds weights and is no config; were CONFIG"),
        (("a.onnx", None, 0.5), CheckpointError, "a.onnx: no such file"),
        (("a.onnx", None, 1.5), ConfigError, "--score-thr 1.5: give a value from 0 to 1"),
        ((CONFIG, "b.pth", 0.5), CheckpointError, "b.pth: no such file"),
        ((CONFIG, "b.pth", 0.5, "warp9"), (ConfigError, DeviceError, CheckpointError), "warp9|no such file"),
    ],
)
def test_model_mistakes(args, error, text):
    with pytest.raises(error, match=text):
        load_finder(*args)


def test_checkpoint_and_onnx_file_find_the_same_faces(shared):
    data = shared / "data"
    image = cv2.imread(str(data / "photos" / "insightface__t1.jpg"))
    (pth,) = (data / "scrfd_pth").glob("*.pth")
    found = []
    for model, checkpoint in (
        (CONFIG, str(pth)),
        (str(data / "scrfd_onnx" / "yukkki7__scrfd_500m.onnx"), None),
    ):
        find, classes = load_finder(model, checkpoint, 0.5, "cpu")
        assert len(classes) == 1
        faces = find(image)
        found.append(faces.take(np.argsort(faces.bboxes[:, 0])))
    # mmdet's test pipeline rounds the picture's size otherwise than the reference's runtime does.
    np.testing.assert_allclose(found[0].bboxes[:, :4], found[1].bboxes[:, :4], atol=3)
    np.testing.assert_allclose(found[0].bboxes[:, 4], found[1].bboxes[:, 4], atol=0.03)
    np.testing.assert_allclose(found[0].kps, found[1].kps, atol=3)
    assert len(found[0]) == 6


def run_tool(repo, folder, *args):
    command = [sys.executable, str(repo / "tools" / "image_demo.py"), *map(str, args)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_image_demo_tool(repo, shared, tmp_path):
    photo = shared / "data" / "photos" / "ternaus__13.jpg"
    model = shared / "data" / "scrfd_onnx" / "yukkki7__scrfd_500m.onnx"
    done = run_tool(repo, tmp_path, photo, model, "--score-thr", "0.5")
    assert done.returncode == 0, done.stderr
    *faces, last = done.stdout.splitlines()
    assert len(faces) == 3 and all(line.startswith("face 0.8") for line in faces)
    assert last == "3 faces, drawn in ternaus__13_faces.png"
    assert cv2.imread(str(tmp_path / "ternaus__13_faces.png")).shape == cv2.imread(str(photo)).shape


def test_image_demo_mistakes_are_one_line_and_code_2(repo, tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    for args, text in (
        (("none.jpg", CONFIG), "image none.jpg: No such file or directory"),
        (("a.jpg", CONFIG), "image a.jpg cannot be decoded"),
    ):
        done = run_tool(repo, tmp_path, *args)
        assert done.returncode == 2 and text in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("--camera-id", "\u00b2", "--out", "a.mp4"),
            r"UnreadableImageError: \S: cannot be opened, or holds no frame.*",
        ),
        (("--max-frames", "-4", "--out", "a.mp4"), "ConfigError: --max-frames -4: give 0 or more"),
        (("--score-thr", "nan"), "ConfigError: --score-thr nan: give a value from 0 to 1"),
    ],
)
def test_webcam_demo_mistakes_are_one_line_and_code_2(run_tool, spots, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_tool("webcam_demo", spots, "--device", "cpu", *args)
    assert (code, out) == (2, "") and re.fullmatch(f"{message}\n", err), err


def test_opencv_adds_nothing_to_the_error_of_a_broken_film(repo, spots, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no film")
    command = [sys.executable, str(repo / "tools" / "webcam_demo.py"), str(spots), "--device", "cpu"]
    command += ["--camera-id", "a.mp4", "--out", "b.mp4"]
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_FFMPEG_LOGLEVEL"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2
    assert re.fullmatch(r"\w+: a\.mp4: cannot be opened, or holds no frame.*\n", done.stderr), done.stderr


def test_nothing_is_overwritten_unasked(run_tool, spots, film, tmp_path, monkeypatch):
    """Under no name and no link, and before the model is opened."""
    monkeypatch.chdir(tmp_path)
    before = film.read_bytes()
    (tmp_path / "link.mp4").symlink_to(film)
    os.link(film, tmp_path / "hard.mp4")
    for name in ("in.mp4", "./in.mp4", "link.mp4", "hard.mp4"):
        for flags in ((), ("--overwrite",)):
            code, _, err = run_tool(
                "webcam_demo", "none.onnx", "--camera-id", "in.mp4", "--out", name, *flags
            )
            assert code == 2 and "would overwrite the input in.mp4" in err and film.read_bytes() == before
    (tmp_path / "old.mp4").write_text("old")
    args = ("webcam_demo", spots, "--camera-id", film, "--out", "old.mp4")
    assert run_tool(*args)[0] == 2 and (tmp_path / "old.mp4").read_text() == "old"
    assert run_tool(*args, "--overwrite")[:2] == (0, "5 frames\n")
    cv2.imwrite("a.png", np.zeros((64, 64, 3), np.uint8))
    code, _, err = run_tool("image_demo", "a.png", "none.onnx", "--out", "a.png", "--overwrite")
    assert code == 2 and "would overwrite the input a.png" in err
    assert run_tool("image_demo", "a.png", spots)[0] == 0
    code, _, err = run_tool("image_demo", "a.png", spots)
    assert code == 2 and "a_faces.png exists; give another name, or --overwrite" in err
    code, _, err = run_tool("image_demo", "a.png", spots, "--out", "b.xyz")
    assert code == 2 and ".xyz: no image type" in err and not (tmp_path / "b.xyz").exists()
