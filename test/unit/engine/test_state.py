"""Resuming an optimizer that steps otherwise, or over weights in another order, than the checkpoint's."""

import copy

import pytest
import torch
from torch import nn

from mmdet.checkpoint import files as checkpoint
from mmdet.config import SpeedConfig
from mmdet.engine.resume import load_resumable
from mmdet.engine.state import _load_optimizer, make_checkpoint, restore
from mmdet.errors import CheckpointError
from mmdet.testing.audit_step import draw_batch


@pytest.mark.parametrize("is_last", [True, False], ids=["from channels last", "to channels last"])
def test_a_fused_optimizer_resumes_across_memory_formats(is_last, make_trainer, tmp_path):
    before = make_trainer(speed=SpeedConfig(channels_last=is_last, fused_optimizer=True))
    for before.iter in range(3):
        before.train_step(draw_batch(2, 64, 5, 8, seed=before.iter))
    before.iter = 3
    checkpoint.save(tmp_path / "a.pth", make_checkpoint(before))
    speeds = [SpeedConfig(channels_last=not is_last, fused_optimizer=is_fused) for is_fused in (False, True)]
    plain, fused = (make_trainer(speed=speed) for speed in speeds)
    for trainer in (plain, fused):
        restore(trainer, checkpoint.load(tmp_path / "a.pth"))
        trainer.train_step(draw_batch(2, 64, 5, 8, seed=9))
    moved = 0
    for one, two in zip(plain.step.net.parameters(), fused.step.net.parameters(), strict=True):
        buffer = fused.step.optimizer.state[two]["momentum_buffer"]
        assert buffer.stride() == two.stride() and buffer.dtype == two.dtype
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-7)
        moved += one.dim() == 4 and one.shape[1] > 1 and one.shape[2] > 1
    assert moved > 10  # kernels whose order differs between the formats


@pytest.fixture
def saved(make_trainer):
    """Return a function that makes the trainer that saves and resumes, and the content after one step."""

    def make(**options):
        trainer = make_trainer(**options)
        trainer.train_step(draw_batch(2, 64, 5, 8, seed=0))
        trainer.iter = 1
        return trainer, make_checkpoint(trainer)

    return make


def of_weight(content):
    return content["optimizer"]["state"][0]


WEIGHT = "backbone.stem.0.0.weight"
STRANGE = {
    "a weight of bool": lambda c: c["state_dict"].update({WEIGHT: c["state_dict"][WEIGHT] > 0}),
    "a weight that is text": lambda c: c["state_dict"].update({WEIGHT: "w"}),
    "a weight too many": lambda c: c["state_dict"].update({5: torch.zeros(1)}),
    "momentum that is text": lambda c: of_weight(c).update(momentum_buffer="m"),
    "momentum of another weight": lambda c: of_weight(c).update(momentum_buffer=torch.zeros(7)),
    "state that is a list": lambda c: c["optimizer"].update(state=[1]),
    "a rate that is text": lambda c: c["optimizer"]["param_groups"][0].update(lr="x"),
    "another group": lambda c: c["optimizer"]["param_groups"].append(c["optimizer"]["param_groups"][0]),
    "no masters": lambda c: c["precision"].pop("masters"),
    "masters too many": lambda c: c["precision"].update(masters=[torch.zeros(1)]),
    "a layout that is text": lambda c: c["precision"].update(layout="abc"),
    "a short random state": lambda c: c["rng"][0].update(torch=torch.zeros(5, dtype=torch.uint8)),
    "no random state": lambda c: c.update(rng=[{}]),
    "classes that are a number": lambda c: c["identity"].update(classes=5),
    "a config that is a list": lambda c: c["identity"].update(config=[1]),
}


def test_a_state_with_strange_parts_is_refused_in_one_line(saved):
    trainer, content = saved()
    content["identity"] = {"classes": trainer.facts.classes, "config": {}, "labels": ""}
    trainer.facts.identity.update(content["identity"])
    for name, spoil in STRANGE.items():
        spoiled = copy.deepcopy(content)
        spoil(spoiled)
        with pytest.raises(CheckpointError) as error:
            restore(trainer, spoiled)
            pytest.fail(name)
        assert "\n" not in str(error.value), name


def test_numbers_that_no_step_may_take_are_refused_at_reading(saved, tmp_path):
    _, content = saved()
    variance = next(key for key in content["state_dict"] if key.endswith("running_var"))
    places = {
        f"state_dict.{variance} holds a variance": (content["state_dict"], variance, -1.0),
        f"state_dict.{WEIGHT} holds nan or inf": (content["state_dict"], WEIGHT, torch.inf),
        "optimizer.state.0.momentum_buffer holds nan": (of_weight(content), "momentum_buffer", torch.nan),
    }
    for message, (place, key, value) in places.items():
        good, place[key] = place[key], torch.full_like(place[key], value)
        checkpoint.save(tmp_path / "a.pth", content)
        place[key] = good
        with pytest.raises(CheckpointError, match=message):
            load_resumable(str(tmp_path / "a.pth"), tmp_path)
    content["position"]["seed"] = 2**80
    checkpoint.save(tmp_path / "a.pth", content)
    with pytest.raises(CheckpointError, match="position is not as it is saved"):
        load_resumable(str(tmp_path / "a.pth"), tmp_path)


def test_the_settings_of_the_config_count_after_resuming():
    def make(**settings):
        return torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1, **settings)

    new = make(momentum=0.5, weight_decay=0.25)
    _load_optimizer(new, make(momentum=0.9, weight_decay=0.125).state_dict())
    assert (new.param_groups[0]["momentum"], new.param_groups[0]["weight_decay"]) == (0.5, 0.25)


def test_state_of_another_dtype_keeps_it():
    weight = nn.Parameter(torch.zeros(2, 3, 2, 2).to(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    optimizer.load_state_dict = lambda saved: optimizer.state.update(saved["state"])  # casts nothing
    buffer = torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 2, 2)
    groups = optimizer.state_dict()["param_groups"]
    _load_optimizer(optimizer, {"param_groups": groups, "state": {weight: {"momentum_buffer": buffer}}})
    loaded = optimizer.state[weight]["momentum_buffer"]
    assert loaded.dtype == torch.bfloat16 and loaded.stride() == weight.stride()
    assert torch.equal(loaded, buffer) and not loaded.requires_grad


@pytest.mark.parametrize("value", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), "x"], ids=str)
def test_state_that_no_weight_of_its_shape_can_have_is_refused(value, make_trainer):
    trainer = make_trainer()
    trainer.train_step(draw_batch(2, 64, 5, 8, seed=1))
    content = make_checkpoint(trainer)
    content["optimizer"]["state"][0]["momentum_buffer"] = value
    with pytest.raises(CheckpointError, match="does not fit: momentum_buffer is not of its weights' shape"):
        restore(make_trainer(), content)


def test_missing_random_states_are_told(make_trainer, caplog):
    content = make_checkpoint(make_trainer())
    content["rng"] = None
    with caplog.at_level("WARNING", "mmdet"):
        restore(make_trainer(), content)
    assert "holds no random state of rank 0" in caplog.text


@pytest.mark.parametrize("is_capturable", [False, True])
def test_the_number_of_steps_lands_where_this_run_wants_it(is_capturable):
    """Meta stands for a card: there a capturable optimizer counts, another one counts on the host."""

    def make(device, capturable):
        weight = nn.Parameter(torch.ones(2, device=device))
        return weight, torch.optim.AdamW([weight], lr=torch.tensor(0.1), capturable=capturable, foreach=False)

    weight, old = make("cpu", False)
    weight.grad = torch.ones(2)
    old.step()
    saved = old.state_dict()
    saved["param_groups"][0]["capturable"] = not is_capturable
    weight, new = make("meta", is_capturable)
    _load_optimizer(new, saved)
    assert new.state[weight]["step"].device.type == ("meta" if is_capturable else "cpu")
    assert new.state[weight]["exp_avg"].device.type == "meta"
    (group,) = new.param_groups
    assert group["capturable"] == is_capturable and type(group["lr"]) is float
    assert saved["param_groups"][0]["capturable"] != is_capturable  # the checkpoint itself is not changed
