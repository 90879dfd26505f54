"""tools/scrfd.py: what comes out in every format, and how it ends on what users do wrong."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mmdet.deploy.cli import run as run_module
from mmdet.deploy.cli import stream
from mmdet.deploy.cli.run import RunOptions, detect_inputs
from mmdet.deploy.cli.video import LoadedImage
from mmdet.deploy.runtime.options import DetectOptions
from mmdet.deploy.runtime.ort_detector import FaceDetector
from mmdet.deploy.runtime.session import Model
from mmdet.errors import ConfigError, DataError
from mmdet.evaluation import read_predictions

EIGHT = [72, 152, 88, 168]  # the box of 8 white pixels at (80, 160) of a 640 x 640 picture


def save(path, *squares, hw=(640, 640)):
    """Write black pixels with white squares (x, y, side)."""
    image = np.zeros((*hw, 3), np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


@pytest.fixture
def photos(tmp_path):
    """Return a folder with one face in a.png, two in sub/b.png, none in c.jpg, and three other files."""
    folder = tmp_path / "photos"
    save(folder / "a.png", (80, 160, 8))
    save(folder / "sub/b.png", (80, 160, 8), (400, 400, 8))
    jpeg = save(folder / "c.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "text.png").write_text("no picture")
    (folder / "notes.txt").write_text("no picture")
    return folder


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_on_stdout(run_tool, spots, photos):
    code, out, err = run_tool("scrfd", spots, photos, "--thr", 0.9)
    assert code == 0
    found = {record["image"]: record for record in records(out)}
    assert list(found) == [str(photos / name) for name in ("a.png", "c.jpg", "sub/b.png")]
    (face,) = found[str(photos / "a.png")]["faces"]
    assert face == {"bbox": [72.0, 152.0, 88.0, 168.0], "score": 0.99805, "kps": [[84.0, 164.0]] * 5}
    assert found[str(photos / "c.jpg")] == {
        "image": str(photos / "c.jpg"), "width": 640, "height": 640, "faces": [],
    }  # fmt: skip
    assert len(found[str(photos / "sub/b.png")]["faces"]) == 2
    told = err.splitlines()
    assert "3 pictures, 3 faces" in told and "skipped 3:" in told
    assert f"  image {photos / 'cut.jpg'} is a JPEG cut off before its end" in told
    assert f"  image {photos / 'text.png'} cannot be decoded" in told
    assert f"  {photos / 'notes.txt'}: neither a picture nor a video by its name" in told


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_way_to_run_gives_the_same(run_tool, spots, photos, monkeypatch, batch_size, threads):
    want = run_tool("scrfd", spots, photos, "--quiet")
    args = ("scrfd", spots, photos, "--quiet", "--batch-size", batch_size, "--threads", threads)
    assert run_tool(*args) == want and want[0] == 0 and want[2] == "skipped 3\n"
    monkeypatch.setattr(Model, "takes_single", False)  # as on an accelerator
    assert run_tool(*args) == want


def test_text_files(run_tool, spots, photos, tmp_path):
    out = tmp_path / "out"
    assert run_tool("scrfd", spots, photos, "--thr", 0.9, "--out", out, "--format", "txt")[:2] == (0, "")
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.txt")) == [
        "a.png.txt",
        "c.jpg.txt",
        "sub/b.png.txt",
    ]
    point = "84.00 164.00"
    line = f"72.00 152.00 88.00 168.00 0.99805 {' '.join([point] * 5)}\n"
    assert (out / "a.png.txt").read_text() == line
    assert (out / "c.jpg.txt").read_text() == ""


def test_widerface_files_are_read_by_the_evaluation(run_tool, spots, photos, tmp_path):
    out = tmp_path / "out"
    assert run_tool("scrfd", spots, photos, "--thr", 0.9, "--out", out, "--format", "widerface")[0] == 0
    found = read_predictions(out)
    np.testing.assert_allclose(found["sub"]["b"][:, :4], [[392, 392, 16, 16], [72, 152, 16, 16]], atol=0.01)
    assert sum(len(images) for images in found.values()) == 3


def test_pictures_with_boxes(run_tool, spots, photos, tmp_path):
    out = tmp_path / "out"
    assert run_tool("scrfd", spots, photos, "--thr", 0.9, "--out", out, "--draw", "--quiet")[:2] == (0, "")
    assert len(records((out / "detections.jsonl").read_text())) == 3
    drawn, blank = cv2.imread(str(out / "a.png.jpg")), cv2.imread(str(out / "c.jpg"))
    assert drawn.shape == (640, 640, 3) and blank.max() < 20
    x1, y1, x2, y2 = EIGHT
    for y, x in (((y1 + y2) // 2, x1), ((y1 + y2) // 2, x2), (y1, (x1 + x2) // 2), (y2, (x1 + x2) // 2)):
        assert drawn[y, x, 1] > 150, (x, y)  # green edges
    assert drawn[300:].max() < 20
    assert {path.name for path in out.iterdir()} == {"detections.jsonl", "a.png.jpg", "c.jpg", "sub"}


def test_options_reach_the_detector(run_tool, spots, photos):
    picture = photos / "sub/b.png"
    _, out, _ = run_tool("scrfd", spots, picture, "--thr", 0.9, "--max-num", 1, "--quiet")
    assert [face["bbox"] for face in records(out)[0]["faces"]] == [[392.0, 392.0, 408.0, 408.0]]  # central
    _, out, _ = run_tool("scrfd", spots, picture, "--thr", 0.2, "--input-size", 320, 320, "--quiet")
    assert records(out)[0]["faces"][0]["score"] == pytest.approx(0.25, abs=0.01)
    save(photos / "large.png", (256, 256, 128))
    for flags, num in ((("--no-two-scale",), 0), (("--two-scale",), 1), ((), 0)):  # no cell sees a large box
        _, out, _ = run_tool("scrfd", spots, photos / "large.png", "--thr", 0.99, "--quiet", *flags)
        wide = [f for f in records(out)[0]["faces"] if f["bbox"][2] - f["bbox"][0] > 200]
        assert len(wide) == num


def test_nms_limit(run_tool, spots, tmp_path):
    """16 white pixels: four boxes of stride 8, a third of each in common with its neighbours."""
    picture = save(tmp_path / "a.png", (320, 320, 16))
    for limit, num in ((0.3, 3), (0.4, 5)):
        _, out, _ = run_tool("scrfd", spots, picture, "--thr", 0.9, "--nms", limit, "--quiet")
        assert len(records(out)[0]["faces"]) == num


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--format", "xml"], "--format = 'xml' is unknown.* Known: json, txt, widerface"),
        (["--format", "txt"], "--format txt writes files; give a folder with --out"),
        (["--draw"], "--draw writes files; give a folder with --out"),
        (["--batch-size", "0"], "--batch-size 0: give 1 or more"),
        (["--thr", "1.5"], "--thr 1.5: give a value from 0 to 1"),
        (["--nms", "-1"], "--nms -1.0: give a value from 0 to 1"),
        (["--max-num", "-1"], "--max-num -1: give 0 or more"),
        (["--max-frames", "-1"], "--max-frames -1: give 0 or more"),
        (["--device-id", "-1"], "device_id -1: give 0 or more"),
        (["--threads", "-2"], "threads -2: give 0 or more"),
        (["--input-size", "641", "641"], "641x641: give multiples of 32, for example 640x640"),
        (["--input-size", "0", "640"], "input_size 0x640: both must be positive"),
        (["--input-size", "100", "100"], "multiples of 32"),
        (["--provider", "cudaa"], "provider = 'cudaa' is unknown; did you mean 'cuda'"),
        (["--out", "{photos}/a.png"], "a.png is a file, not a folder"),
        (["--out", "/proc/none"], "/proc/none/detections.jsonl cannot be written"),
    ],
)
def test_mistakes_end_with_one_line(run_tool, spots, photos, args, message):
    code, out, err = run_tool("scrfd", spots, photos, "--quiet", *(arg.format(photos=photos) for arg in args))
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1 and re.match(rf"\w+Error: .*{message}", err), err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, b"", "none.onnx: no such file"),
        ("a.onnx", b"", "a.onnx cannot be opened as an ONNX model"),
        ("a.pth", b"PK\x03\x04zip", "a.pth cannot be opened as an ONNX model"),
    ],
)
def test_wrong_model_file(run_tool, photos, tmp_path, name, content, message):
    path = tmp_path / (name or "none.onnx")
    if name:
        path.write_bytes(content)
    code, out, err = run_tool("scrfd", path, photos)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert re.match(rf"CheckpointError: .*{message}", err), err


def test_a_missing_provider_names_those_there(run_tool, spots, photos):
    code, _, err = run_tool("scrfd", spots, photos, "--provider", "cann")
    assert code == 2 and re.match("DeviceError: provider 'cann' is not part of .*available: .*cpu", err), err
    assert len(err.splitlines()) == 1


def test_nothing_to_read(run_tool, spots, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = run_tool("scrfd", spots, tmp_path / "empty", "--quiet")
    assert (code, out) == (2, "") and re.match("DataError: .*empty: no picture and no video", err)
    (tmp_path / "empty/a.jpg").write_text("text")
    (tmp_path / "empty/b.mp4").write_text("text")
    code, out, err = run_tool("scrfd", spots, tmp_path / "empty", "--quiet")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert re.match("DataError: none of 2 files could be read: image .*a.jpg cannot be decoded", err), err


@pytest.mark.slow
@pytest.mark.parametrize("hw", [(1, 1), (1, 4000), (4000, 1)])
def test_pictures_of_one_pixel(run_tool, spots, tmp_path, hw):
    path = save(tmp_path / "a.png", hw=hw)
    code, out, _ = run_tool("scrfd", spots, path, "--quiet", "--out", tmp_path / "out", "--draw")
    assert (code, out) == (0, "")
    assert records((tmp_path / "out/detections.jsonl").read_text())[0]["faces"] == []
    assert cv2.imread(str(tmp_path / "out/a.png.jpg")).shape[:2] == hw


@pytest.mark.slow
def test_a_picture_of_12000_pixels(run_tool, spots, tmp_path):
    path = save(tmp_path / "a.jpg", (1500, 3000, 150), hw=(12000, 12000))
    code, out, _ = run_tool("scrfd", spots, path, "--quiet", "--thr", 0.95)
    (face,) = records(out)[0]["faces"]
    np.testing.assert_allclose(face["bbox"], [1350, 2850, 1650, 3150], atol=1)
    assert code == 0


def test_more_skipped_files_than_are_named(run_tool, spots, tmp_path):
    save(tmp_path / "a.png")
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_text("text")
    code, _, err = run_tool("scrfd", spots, tmp_path)
    told = err.splitlines()
    assert code == 0 and "skipped 8:" in told and told[-1] == "  and 3 more"
    assert sum("cannot be decoded" in line for line in told) == 5 and "9/9" in err


def test_unreadable_pictures_are_named_before_other_files(run_tool, spots, tmp_path):
    save(tmp_path / "z.png")
    (tmp_path / "broken.jpg").write_text("text")
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("text")
    told = run_tool("scrfd", spots, tmp_path)[2].splitlines()
    assert "broken.jpg cannot be decoded" in told[told.index("skipped 9:") + 1]
    assert run_tool("scrfd", spots, tmp_path, "--quiet")[2] == "skipped 9\n"
    (tmp_path / "z.png").unlink()
    code, _, err = run_tool("scrfd", spots, tmp_path, "--quiet")
    assert code == 2 and "broken.jpg cannot be decoded" in err and len(err.splitlines()) == 1


def test_progress_is_shown_unless_quiet(run_tool, spots, photos):
    assert "3/3" in run_tool("scrfd", spots, photos / "a.png", photos / "c.jpg", photos / "sub/b.png")[2]


@pytest.fixture
def film(tmp_path):
    """Return a film of five frames; a white square moves 64 px to the right in each."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (640, 640))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write video")
    for number in range(5):
        image = np.zeros((640, 640, 3), np.uint8)
        image[64:96, 64 * (number + 1) : 64 * (number + 1) + 32] = 255
        writer.write(image)
    writer.release()
    return path


def test_video(run_tool, spots, photos, film, tmp_path):
    out = tmp_path / "out"
    args = ("--thr", 0.97, "--max-num", 1, "--batch-size", 2, "--out", out, "--draw", "--max-frames", 4)
    (tmp_path / "b.mp4").write_text("text")
    code, _, err = run_tool("scrfd", spots, film, tmp_path / "b.mp4", photos / "a.png", *args)
    assert code == 0 and "5 pictures" in err and "b.mp4: cannot be opened" in err
    found = records((out / "detections.jsonl").read_text())
    assert [record.get("frame") for record in found] == [None, 0, 1, 2, 3]
    assert [record["time_s"] for record in found[1:]] == pytest.approx([0, 0.1, 0.2, 0.3])
    for number, record in enumerate(found[1:]):
        (face,) = record["faces"]
        assert 64 * (number + 1) - 32 <= face["bbox"][0] <= 64 * (number + 1) + 32
    drawn = cv2.VideoCapture(str(out / "film_faces.mp4"))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (4, 10)


def test_camera(run_tool, spots, monkeypatch):
    """The user ends a camera with Ctrl-C: what was found stays, and the exit code is 0."""

    def frames(source, max_frames, name):
        assert (source, max_frames) == (0, 0)
        for _ in range(3):
            yield (
                f"camera {source}",
                lambda: LoadedImage(np.zeros((64, 64, 3), np.uint8), "camera 0", "camera 0", 0, 0.0),
            )
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "video_tasks", frames)
    code, out, err = run_tool("scrfd", spots, "0")
    assert code == 0 and len(records(out)) == 3 and "stopped" in err and "3 pictures, 0 faces" in err


def test_few_pictures_are_in_memory_at_once(spots, monkeypatch):
    """A slow consumer does not make the readers run ahead of it without a limit."""
    begun = []

    def task(number):
        def read():
            begun.append(number)
            return LoadedImage(np.zeros((8, 8, 3), np.uint8), "a", "a")

        return str(number), read

    for single in (True, False):
        begun.clear()
        monkeypatch.setattr(Model, "takes_single", single)
        detector, options = FaceDetector(spots, provider="cpu"), DetectOptions(batch_size=4)
        results = stream.detect_stream(detector, map(task, range(100)), {}, options)
        next(results)
        assert len(begun) <= 12
        results.close()
        assert len(begun) <= 12


def test_an_error_of_the_network_ends_the_run(spots, photos):
    with pytest.raises(ConfigError, match="multiples of 32"):
        detect_inputs(
            FaceDetector(spots, provider="cpu"),
            [str(photos)],
            RunOptions(detect=DetectOptions(input_size=(90, 90))),
        )


def test_a_folder_of_a_result_s_name_is_an_error_of_one_line(run_tool, spots, photos, tmp_path):
    (tmp_path / "out/a.png.txt").mkdir(parents=True)
    code, _, err = run_tool("scrfd", spots, photos, "--out", tmp_path / "out", "--format", "txt", "--quiet")
    assert code == 2 and re.match("ConfigError: .*a.png.txt is a folder", err), err


def test_options_are_checked_before_anything_is_opened():
    with pytest.raises(ConfigError, match="score_thr"):
        RunOptions(detect=DetectOptions(score_thr=-0.1))
    with pytest.raises(DataError, match="no such file"):
        detect_inputs(None, ["none.jpg"], RunOptions())


def test_in_a_process_of_its_own(repo, spots, photos):
    """Twice: once well, once with a file that is not there."""
    command = [
        sys.executable,
        str(repo / "tools/scrfd.py"),
        str(spots),
        str(photos / "a.png"),
        "--thr",
        "0.9",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0 and records(done.stdout)[0]["faces"][0]["bbox"] == EIGHT, done.stderr
    done = subprocess.run([*command[:3], "none.jpg"], capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "DataError: none.jpg: no such file or folder\n"


def test_crops_aligned_and_blurred_faces(run_tool, spots, photos, film, tmp_path):
    out = tmp_path / "out"
    args = (spots, photos / "sub/b.png", photos / "a.png", film, "--thr", 0.9, "--max-frames", 1)
    code, _, err = run_tool("scrfd", *args, "--out", out, "--crop", "--align", "--blur", "--max-num", 1)
    assert code == 0, err
    names = {str(path.relative_to(out)) for path in out.rglob("*.*") if path.is_file()}
    titles = ("b.png_0.jpg", "a.png_0.jpg", "film.avi_000000_0.jpg")
    faces = {f"{kind}/{name}" for kind in ("crops", "aligned") for name in titles}
    assert names == {"detections.jsonl", "b.png.jpg", "a.png.jpg", "film_faces.mp4", *faces}
    assert cv2.imread(str(out / "aligned/a.png_0.jpg")).shape == (112, 112, 3)
    assert cv2.imread(str(out / "crops/a.png_0.jpg")).shape == (16, 16, 3)
    changed = cv2.absdiff(cv2.imread(str(out / "a.png.jpg")), cv2.imread(str(photos / "a.png"))) > 30
    assert changed[150:171, 70:91].any() and not changed[:140].any()  # the white square is a mosaic
    code, _, err = run_tool("scrfd", *args, "--out", out, "--crop", "--quiet", "--format", "txt")
    assert code == 2 and "crops/b.png_0.jpg exists" in err
    code, _, err = run_tool("scrfd", *args, "--blur")
    assert code == 2 and "--blur writes files; give a folder with --out" in err
