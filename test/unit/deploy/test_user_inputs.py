"""Inputs that users' bug reports describe: each is found right, or named in one sentence.

The rows A01 to A26 of ../shared/cases/deploy/README.md, and for each kind a further input.
"""

import copy
import functools
import http.client
import http.server
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mmdet.deploy import SCRFD, DetectOptions
from mmdet.deploy.cli.demo import load_finder
from mmdet.deploy.cli.outputs import Products
from mmdet.deploy.export.convert import convert
from mmdet.deploy.runtime.looks import choose_tiles
from mmdet.errors import CheckpointError, ConfigError, DataError
from mmdet.images import decode_image, read_image

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"
T13 = [0.882, 0.870, 0.826]  # scores of the three faces of that photograph


@pytest.fixture(scope="module")
def cases(shared):
    folder = shared / "cases" / "deploy"
    if not folder.is_dir():
        pytest.skip("../shared/cases/deploy is absent")
    return folder


@pytest.fixture(scope="module")
def published(shared):
    return shared / "data/scrfd_onnx/yukkki7__scrfd_500m.onnx"


@pytest.fixture(scope="module")
def weights(shared):
    (path,) = (shared / "data/scrfd_pth").glob("*.pth")
    return path


@pytest.fixture(scope="module")
def made(cases, published, weights, tmp_path_factory):
    """Return the folder of the model files that make_models.py writes."""
    folder = tmp_path_factory.mktemp("made")
    command = [sys.executable, str(cases / "make_models.py"), str(published), str(weights), str(folder)]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def detector(published):
    return SCRFD(published, provider="cpu")


@pytest.fixture(scope="module")
def photo(shared):
    return shared / "data/photos/ternaus__13.jpg"


@pytest.fixture(autouse=True)
def in_a_folder(monkeypatch, repo, tmp_path):
    monkeypatch.chdir(repo)


def scores(found):
    return found[0][:, 4].astype(float).round(3).tolist()


def one_line(result, *words):
    code, out, err = result
    lines = [line for line in err.splitlines() if "Error" in line]
    assert code == 2 and len(lines) == 1 and all(word in lines[0] for word in words), err


# A01, A08: not a number is not "no face"


@pytest.mark.slow
def test_a01_an_fp16_export_that_overflows_is_not_verified(run_tool, made, photo, tmp_path):
    path = tmp_path / "f16.onnx"
    args = (CONFIG, made / "fp16_overflows.pth", "--output-file", path, "--fp16", "--verify", "--shape", 320)
    result = run_tool("scrfd2onnx", *args)
    one_line(result, "the file's output score_8 are not finite")
    assert "verified" not in result[1]
    one_line(run_tool("scrfd", path, photo), "f16.onnx gives scores that are not finite")
    assert run_tool("scrfd2onnx", *args[:4], "--overwrite", "--verify", "--shape", 320)[0] == 0  # in fp32


def test_a08_weights_that_are_not_finite_are_named_by_every_tool(run_tool, made, photo, tmp_path):
    bad = made / "nan.pth"
    words = ("nan.pth: 1 of 285 weights hold nan or inf: backbone.stem.0.0.weight",)
    one_line(run_tool("scrfd2onnx", CONFIG, bad, "--output-file", tmp_path / "a.onnx"), *words)
    one_line(run_tool("convert_weights", bad, tmp_path / "a.pth"), *words)
    one_line(run_tool("publish_model", bad, tmp_path / "b.pth"), *words)
    one_line(run_tool("image_demo", photo, CONFIG, bad, "--out", tmp_path / "a.png"), *words)
    assert os.listdir(tmp_path) == []


def edit(path, target, change):
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(target))
    return target


def scale_scores(factor):
    def change(model):
        value = model.graph.output[0]
        value_type = copy.deepcopy(value.type)
        name = value.name
        constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
        model.graph.node.append(helper.make_node("Constant", [], ["factor"], value=constant))
        model.graph.node.append(helper.make_node("Mul", [name, "factor"], ["scaled"]))
        value.name = "scaled"
        value.type.CopyFrom(value_type)

    return change


@pytest.mark.parametrize(
    ("factor", "message"),
    [(float("nan"), "scores that are not finite"), (float("inf"), "not finite"), (90.0, "not from 0 to 1")],
)
def test_a_file_whose_scores_are_no_probabilities(spots, tmp_path, factor, message):
    path = edit(spots, tmp_path / "a.onnx", scale_scores(factor))
    with pytest.raises(CheckpointError, match=message):
        SCRFD(path, provider="cpu").detect(np.full((64, 64, 3), 255, np.uint8))


# A03, A04: nothing is lost


@pytest.mark.parametrize("name", ["film.mp4", "./film.mp4", "link.mp4", "hard.mp4"])
def test_a03_a_film_is_not_replaced_by_its_drawing(run_tool, cases, published, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").write_bytes((cases / "film.mp4").read_bytes())
    (tmp_path / "link.mp4").symlink_to("film.mp4")
    os.link("film.mp4", "hard.mp4")
    args = (published, "--camera-id", "film.mp4", "--out", name, "--overwrite")
    one_line(run_tool("webcam_demo", *args), "would overwrite the input film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == (cases / "film.mp4").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["webcam_demo", "scrfd"])
def test_a04_a_full_disk_leaves_no_broken_film(cases, published, repo, tmp_path, tool):
    """A limit of 15 KiB per file stands for a full disk."""
    last = ["--camera-id", cases / "film.mp4", "--out", "o.mp4"]
    if tool == "scrfd":
        last = [cases / "film.mp4", "--out", "out", "--draw"]
    words = [sys.executable, repo / f"tools/{tool}.py", published, *last]
    command = "ulimit -f 15; exec " + " ".join(f"'{word}'" for word in words)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "WriteError: " in done.stderr and "cannot be written" in done.stderr
    assert not list(tmp_path.rglob("*.mp4"))


# A05: thin images


def test_a05_thin_images_hold_no_face_whatever_the_model(cases, weights):
    find, _ = load_finder(CONFIG, str(weights), 0.5, "cpu")
    thin = cv2.imread(str(cases / "thin_1400x1.png"))
    for image in (thin, np.ascontiguousarray(thin.transpose(1, 0, 2))):
        assert len(find(image)) == 0


# A06, A07: processes


def detect_in_child(detector, path, queue):
    queue.put([scores(found) for found in detector.detect_batch([path, path])])


def test_a06_a_forked_child_finds_the_same(published, photo):
    detector = SCRFD(published, provider="cpu", threads=2)
    want = [scores(found) for found in detector.detect_batch([photo, photo])]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=detect_in_child, args=(detector, photo, queue))
    child.start()
    try:
        assert queue.get(timeout=60) == want == [T13, T13]
    finally:
        child.kill()
    assert [scores(found) for found in detector.detect_batch([photo, photo])] == want  # the parent goes on


@pytest.mark.parametrize("copied", [lambda d: pickle.loads(pickle.dumps(d)), copy.deepcopy])
def test_a07_a_detector_can_be_copied(published, photo, copied):
    detector = SCRFD(published, provider="cpu", det_thresh=0.85, det_size=(320, 320))
    twin = copied(detector)
    assert twin.options == detector.options and twin.input_hw == (320, 320)
    np.testing.assert_array_equal(twin.detect(photo)[0], detector.detect(photo)[0])


def test_a_session_of_ones_own_says_why_it_cannot_be_copied(published):
    import onnxruntime

    given = SCRFD(session=onnxruntime.InferenceSession(str(published), providers=["CPUExecutionProvider"]))
    with pytest.raises(TypeError, match="cannot be copied; make the detector from a file"):
        pickle.dumps(given)


def test_several_threads_and_a_context(published, photo):
    with SCRFD(published, providers=["CPUExecutionProvider"]) as detector, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: scores(detector.detect(photo)), range(8)))
        assert found == [T13] * 8
        assert len(detector.detect_batch([photo] * 3)) == 3
    assert scores(detector.detect(photo)) == T13  # closed: only its threads have ended


# A13, A14: files of other exporters


def test_a13_outputs_in_another_order(made, photo):
    assert scores(SCRFD(made / "interleaved.onnx", provider="cpu").detect(photo)) == T13


def test_outputs_reversed_and_without_telling_names(published, photo, tmp_path):
    def change(model):
        outputs = list(model.graph.output)[::-1]
        del model.graph.output[:]
        model.graph.output.extend(outputs)

    path = edit(published, tmp_path / "a.onnx", change)
    assert scores(SCRFD(path, provider="cpu").detect(photo)) == T13


def test_a14_half_precision_input(made, photo):
    np.testing.assert_allclose(
        scores(SCRFD(made / "fp16_input.onnx", provider="cpu").detect(photo)), T13, atol=0.002
    )


def test_an_input_of_another_type_is_named(spots, tmp_path):
    def change(model):
        entry = model.graph.input[0]
        for node in model.graph.node:
            node.input[:] = ["as_float" if name == entry.name else name for name in node.input]
        model.graph.node.insert(0, helper.make_node("Cast", [entry.name], ["as_float"], to=TensorProto.FLOAT))
        entry.type.tensor_type.elem_type = TensorProto.UINT8

    path = edit(spots, tmp_path / "a.onnx", change)
    with pytest.raises(CheckpointError, match=r"a.onnx takes tensor\(uint8\) input; expected is float"):
        SCRFD(path, provider="cpu")


# A17, A18: arguments


def test_a17_one_image_in_place_of_a_list(detector, photo):
    image = cv2.imread(str(photo))
    for given in (image, image[..., 0], str(photo), photo):
        with pytest.raises(DataError, match="a list of images is expected"):
            detector.detect_batch(given)
    assert [scores(found) for found in detector.detect_batch(np.stack([image, image]))] == [T13, T13]


def test_a18_values_from_0_to_1(detector, photo):
    image = cv2.imread(str(photo)).astype(np.float32)
    with pytest.raises(DataError, match="image 0: values from 0 to 1, expected 0 to 255; multiply by 255"):
        detector.detect(image / 255)
    np.testing.assert_allclose(scores(detector.detect(image)), T13, atol=0.002)
    assert len(detector.detect(np.zeros((64, 64, 3), np.float32))[0]) == 0  # black is black


def test_a_model_in_train_mode_and_channels_first(weights, detector, photo):
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(CONFIG, str(weights), "cpu").train()
    with pytest.raises(ConfigError, match="in train mode; call model.eval"):
        inference_detector(model, str(photo))
    with pytest.raises(DataError, match=r"image 0: shape \(3, 682, 933\), expected \(H, W\)"):
        detector.detect(cv2.imread(str(photo)).transpose(2, 0, 1))


# A20: long images; close-ups


@pytest.mark.slow
def test_a20_a_long_screenshot_is_tiled(detector, cases):
    image = cv2.imread(str(cases / "long_480x6640.jpg"))
    assert len(detector.detect(image, tiles=0)[0]) == 0
    found, kps = detector.detect(image)
    want, _ = detector.detect(image, input_size=(480, 6656), tiles=0)
    assert len(found) == len(want) == 24 and kps.shape == (24, 5, 2)
    order, want_order = found[:, 1].argsort(), want[:, 1].argsort()
    np.testing.assert_allclose(found[order, :4], want[want_order, :4], atol=8)


def test_a_line_of_pixels_is_looked_at_a_few_times():
    """A tile for each pixel: an image of 4 kB would keep the page's detector busy for half an hour."""
    for hw in ((1, 60_000), (60_000, 3), (20, 2000)):
        assert 16 <= len(choose_tiles(hw, (640, 640), "auto")) <= 2 * 32
    assert choose_tiles((100, 200), (640, 640), "auto") == []


@pytest.mark.slow
def test_a_panorama_is_tiled(detector, photo):
    wide = np.hstack([cv2.imread(str(photo))] * 8)
    assert len(detector.detect(wide, tiles=0)[0]) == 0
    assert len(detector.detect(wide)[0]) == 8 * len(T13)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.96, 0.83, 0.71, 0.59, 0.50])
def test_close_ups_are_found_by_default(detector, shared, ratio):
    """The face's side is this part of the image's; 10 faces of the photographs that are large enough."""
    num = 0
    for path in sorted((shared / "data/photos").glob("*.[jp][pn]g")):
        image = cv2.imread(str(path))
        for x1, y1, x2, y2, score in detector.detect(image, two_scale=False)[0].tolist():
            side = max(x2 - x1, y2 - y1)
            half, cx, cy = side / ratio / 2, (x1 + x2) / 2, (y1 + y2) / 2
            left, top, right, bottom = (round(v) for v in (cx - half, cy - half, cx + half, cy + half))
            if score < 0.7 or side < 90 or min(left, top) < 0:
                continue
            if right > image.shape[1] or bottom > image.shape[0]:
                continue
            found = detector.detect(np.ascontiguousarray(image[top:bottom, left:right]))[0]
            assert len(found) and max(found[0, 2] - found[0, 0], found[0, 3] - found[0, 1]) > 0.6 * side
            num += 1
    assert num >= 5


def test_only_an_image_with_a_large_box_is_looked_at_twice(detector, photo, monkeypatch):
    """Three faces of a quarter of the photograph: one look. One of them alone: a second one, at 160 x 160."""
    shapes, run = [], detector.model.run
    monkeypatch.setattr(detector.model, "run", lambda blob: shapes.append(blob.shape[2:]) or run(blob))
    image = cv2.imread(str(photo))
    bboxes, _ = detector.detect(image)
    x1, y1, x2, y2 = bboxes[0, :4].round().astype(int)
    assert shapes == [(640, 640)]
    assert len(detector.detect(image[y1:y2, x1:x2])[0]) == 1
    assert shapes[1:] == [(640, 640), (160, 160)]


def test_a_checkpoint_sees_close_ups_too(weights, detector, photo):
    find, _ = load_finder(CONFIG, str(weights), 0.5, "cpu")
    image = cv2.imread(str(photo))
    x1, y1, x2, y2 = detector.detect(image)[0][0, :4].round().astype(int)
    assert len(find(np.ascontiguousarray(image[y1:y2, x1:x2]))) == 1


# A26: what is no model


def test_a26_downloads_that_failed_are_named(run_tool, made, photo, tmp_path):
    out = tmp_path / "a.png"
    one_line(run_tool("image_demo", photo, CONFIG, made / "html.pth", "--out", out), "html.pth is a web page")
    one_line(run_tool("scrfd", made / "lfs.onnx", photo), "lfs.onnx is a Git LFS pointer", "git lfs pull")
    (tmp_path / "a.pth").write_bytes((made / "lfs.onnx").read_bytes())
    with pytest.raises(CheckpointError, match="a.pth is a Git LFS pointer"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth")


# Call forms of the reference's class and its wrappers


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (((640, 640),), {}),
        ((0.5, (640, 640), 0, "default"), {}),
        ((), {"det_thresh": 0.5}),
        ((), {"thresh": 0.5, "input_size": [640, 640]}),
        (((640, 640), 0, "default"), {}),
        ((None, (640, 640)), {}),
        ((), {"input_size": [(128, 128), (640, 640)]}),
        ((), {"input_size": np.array([[128, 128], [640, 640]])}),
        ((), {"max_num": 3, "metric": "max"}),
        ((), {"score_thr": 0.5, "iou_thr": 0.4}),
    ],
)
def test_call_forms(detector, photo, args, kwargs):
    assert sorted(scores(detector.detect(photo, *args, **kwargs))) == sorted(T13)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {"det_tresh": 0.3}, "argument = 'det_tresh' is unknown; did you mean 'det_thresh'"),
        ((), {"input_size": 640}, "input_size=640: give a width and a height"),
        ((), {"thresh": 0.3, "score_thr": 0.4}, "given twice"),
        ((0.5,), {"thresh": 0.3}, "given twice"),
        ((), {"two_scale": "yes"}, "two_scale='yes': give True, False or 'auto'"),
        ((), {"tiles": "many"}, "tiles='many': give a whole number, or 'auto'"),
        ((0.5, (640, 640), 0, "max", True, 1), {}, "6 positional arguments"),
    ],
)
def test_calls_that_are_refused(detector, photo, args, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        detector.detect(photo, *args, **kwargs)


def test_sizes_that_no_memory_holds(spots):
    with pytest.raises(ConfigError, match="input_size 64000x64000: at most 150000000 pixels"):
        SCRFD(spots, det_size=(64000, 64000))
    with pytest.raises(ConfigError, match="threads 100000: give 0 to 1024"):
        SCRFD(spots, threads=100_000)
    with pytest.raises(ConfigError, match="--align 100000000: give 0 to 4096"):
        Products(align=100_000_000)


def test_options_are_checked_where_they_are_made():
    with pytest.raises(ConfigError, match="score_thr 2: give a value from 0 to 1"):
        DetectOptions(score_thr=2)
    assert DetectOptions().changed(**{"--thr": 0.3}).score_thr == 0.3


# A09 to A12, A16, A23: everything a folder holds


def test_a09_an_avif_is_turned_as_the_file_says(detector, cases):
    turned, _ = detector.detect(cases / "rot90.avif")
    same, _ = detector.detect(cases / "rot90_same.jpg")
    assert len(turned) == 3 and read_image(cases / "rot90.avif").shape == (341, 466, 3)
    np.testing.assert_allclose(turned[turned[:, 0].argsort(), :4], same[same[:, 0].argsort(), :4], atol=3)
    assert len(detector.detect(cases / "plain.avif")[0]) == 3


@pytest.mark.parametrize(("quarters", "corner"), [(0, (0, 0)), (1, (-1, 0)), (2, (-1, -1)), (3, (0, -1))])
def test_each_rotation_of_an_avif(cases, quarters, corner):
    """A white corner at the top left goes counter-clockwise."""
    data = bytearray((cases / "rot90.avif").read_bytes())
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    data[data.find(b"irot") + 4] = quarters
    got = decode_image(np.frombuffer(data, np.uint8), "a")
    assert (got[corner] == plain[0, 0]).all()


@pytest.mark.parametrize(("axis", "code"), [(0, 0), (1, 1)])  # top to bottom, left to right
def test_a_mirrored_avif(cases, axis, code):
    data = bytearray((cases / "rot90.avif").read_bytes().replace(b"irot", b"imir"))
    data[data.find(b"imir") + 4] = axis
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_image(np.frombuffer(data, np.uint8), "a"), cv2.flip(plain, code))


def test_all_images_of_an_animated_png(run_tool, spots, tmp_path):
    frames = [np.full((64, 64, 3), gray, np.uint8) for gray in (0, 255, 0)]
    animation = cv2.Animation()
    animation.frames, animation.durations = frames, [100, 100, 100]
    for name in ("a.png", "a.webp", "a.avif"):
        assert cv2.imwriteanimation(str(tmp_path / name), animation)
    cv2.imwrite(str(tmp_path / "b.png"), frames[0])
    code, out, _ = run_tool("scrfd", spots, tmp_path, "--max-num", 1, "--input-size", 64, 64)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    for name in ("a.png", "a.webp", "a.avif"):
        found = [(r["frame"], len(r["faces"])) for r in records if r["image"].endswith(name)]
        assert found == [(0, 0), (1, 1), (2, 0)], name
    assert sum("frame" not in record for record in records) == 1


def test_a10_a23_suffixes_and_frames(run_tool, cases, published, tmp_path):
    for name in ("still.gif", "win.jfif", "plain.avif", "two_frames.gif"):
        (tmp_path / name).write_bytes((cases / name).read_bytes())
    code, out, err = run_tool("scrfd", published, tmp_path)
    found = [(r["image"].rsplit("/", 1)[-1], len(r["faces"])) for r in map(json.loads, out.splitlines())]
    assert code == 0 and "skipped" not in err
    assert sorted(found) == [
        ("plain.avif", 3), ("still.gif", 3), ("two_frames.gif", 3), ("two_frames.gif", 3), ("win.jfif", 3),
    ]  # fmt: skip


def test_pages_of_a_tiff_and_12_bits(run_tool, published, photo, tmp_path):
    image = cv2.imread(str(photo))
    cv2.imwritemulti(str(tmp_path / "pages.tif"), [image, image[:400], image])
    cv2.imwrite(str(tmp_path / "deep.png"), image.astype(np.uint16) << 4)
    code, out, err = run_tool("scrfd", published, tmp_path, "--out", tmp_path / "out", "--draw")
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "out/detections.jsonl").read_text().splitlines()]
    assert [(len(line["faces"]), line["height"]) for line in lines] == [
        (3, 682),
        (3, 682),
        (3, 400),
        (3, 682),
    ]
    assert [line.get("frame") for line in lines] == [None, 0, 1, 2]


def test_a11_heic_says_how(run_tool, cases, published, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    words = ("phone.heic is HEIC: pip install 'scrfd-trainer[heic]', or convert it",)
    one_line(run_tool("scrfd", published, cases / "phone.heic"), *words)
    one_line(run_tool("image_demo", cases / "phone.heic", published, "--out", tmp_path / "a.png"), *words)


def test_heic_is_read_where_its_library_is(cases, detector):
    pytest.importorskip("pillow_heif")
    found, _ = detector.detect(cases / "phone.heic")
    assert len(found) == 3


def test_a12_links_are_followed_once_and_broken_ones_named(run_tool, published, photo, tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "a.jpg").write_bytes(photo.read_bytes())
    (folder / "link").symlink_to(elsewhere)
    (folder / "again").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    (elsewhere / "back").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    code, out, err = run_tool("scrfd", published, folder)
    assert code == 0 and len(out.splitlines()) == 1 and "1 pictures, 3 faces" in err
    assert "gone.jpg: a link to" in err and "which is not there" in err


def test_standard_input_list_files_home_and_addresses(
    repo, run_tool, published, photo, tmp_path, monkeypatch
):
    command = [sys.executable, repo / "tools/scrfd.py", published, "-"]
    done = subprocess.run(command, input=photo.read_bytes(), capture_output=True, timeout=60)
    assert done.returncode == 0 and json.loads(done.stdout)["image"] == "-"
    (tmp_path / "a.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "list.txt").write_text(f"# two names of one file\na.jpg\n\n{tmp_path / 'a.jpg'}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for argument in (tmp_path / "list.txt", "~/a.jpg", "~/list.txt"):
        code, out, _ = run_tool("scrfd", published, argument)
        assert code == 0 and len(out.splitlines()) == 1 and len(json.loads(out)["faces"]) == 3
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        scheme, (host, port) = "http", server.server_address[:2]
        address = f"{scheme}://{host}:{port}"
        code, out, err = run_tool("scrfd", published, f"{address}/a.jpg", f"{address}/none.jpg")
        server.shutdown()
    assert code == 0 and len(json.loads(out)["faces"]) == 3, err
    assert f"image {address}/none.jpg: HTTP Error 404" in err


def test_a16_a_form_is_an_upload_too(detector, photo):
    from mmdet.deploy.web.server import make_server

    boundary = "----b"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    good = head.encode() + photo.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    empty = f"--{boundary}--\r\n".encode()
    with make_server(detector, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers = []
        for body in (good, empty):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
            kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            connection.request("POST", "/detect?threshold=0.5", body, kind)
            answers.append(json.loads(connection.getresponse().read()))
            connection.close()
        server.shutdown()
    assert len(answers[0]["faces"]) == 3
    assert "the form has no file; send one as -F file=@photo.jpg" in answers[1]["error"]


def test_what_a_form_and_an_address_say_is_not_left_out(spots, cases):
    from mmdet.deploy.web.server import make_server

    field = 'Content-Disposition: form-data; name="file"; filename="a.avif"'
    picture = (cases / "rot90.avif").read_bytes()

    def form(*parts):
        whole = b"".join(b"--b\r\n%s\r\n\r\n%s\r\n" % (head.encode(), data) for head, data in parts)
        return whole + b"--b--\r\n"

    other = ('Content-Disposition: form-data; name="threshold"', b"0.9")
    asked = {
        ("", form((field, picture))): "466",  # turned
        ("", form((field, picture), other)): "options go into the address",
        ("", form((field, picture), (field, b""))): "more than one file",
        ("?thresh=.5&thresh=.6", form((field, picture))): "a parameter is given twice",
        ("?thresh=", form((field, picture))): "thresh=: a number from 0 to 1 is expected",
    }
    with make_server(SCRFD(spots), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        for (query, body), message in asked.items():
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            connection.request("POST", f"/detect{query}", body, kind)
            assert message in connection.getresponse().read().decode()
        connection.close()
        server.shutdown()


def test_a_film_that_ends_early_is_remarked(run_tool, spots, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write video")
    for _ in range(20):
        writer.write(np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8))
    writer.release()
    code, _, err = run_tool("scrfd", spots, tmp_path / "a.avi", "--thr", 1)
    assert code == 0 and "20/20" in err and "ends after" not in err  # the total is known beforehand
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data[: len(data) // 2])
    code, _, err = run_tool("scrfd", spots, tmp_path / "a.avi", "--thr", 1)
    assert code == 0 and "of 20 frames: it may be damaged" in err


@pytest.mark.slow
def test_small_faces_in_large_images_are_remarked(run_tool, spots, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((5000, 5400, 3), np.uint8))
    code, _, err = run_tool("scrfd", spots, tmp_path / "a.png")
    assert code == 0 and "faces of less than 64 pixels may be missing in 1 large pictures: --tiles 3" in err
    code, _, err = run_tool("scrfd", spots, tmp_path / "a.png", "--tiles", 2)
    assert code == 0 and "may be missing" not in err
