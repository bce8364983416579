"""benchmarks/abuse.py: a part of it is run here; what it calls a fault is one, and an input is the
same every time."""

import warnings
from random import Random

import pytest
import torch
from abuse import SURFACES, WRONG, Input, judge, main, make
from abuse_surfaces import World, pictures

from minildm.diffusion import make_betas
from minildm.files import read_json

NUMBERS = {"functions": 60, "files": 20, "tokenizer": 60, "commands": 12}
NUMBERS |= {"trainings": 3, "submissions": 8}  # each is slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("abuse"))


@pytest.mark.parametrize("surface", SURFACES)
def test_hostile_inputs_are_refused_in_one_line_or_give_what_is_right(world, surface):
    verdicts = [judge(make(surface, i, 0, world)) for i in range(NUMBERS[surface])]
    assert [verdict for verdict in verdicts if verdict.kind in WRONG] == []
    assert {"works", "refused"} <= {verdict.kind for verdict in verdicts}


@pytest.mark.parametrize("surface", SURFACES)
def test_a_number_is_the_same_input_every_time(world, surface):
    told = [[make(surface, i, seed, world).told for i in range(20)] for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]


def test_inputs_of_every_kind_are_made(world):
    """What the issue's reports were about is among the first of them."""
    told = " ".join(make(surface, i, 0, world).told for surface in SURFACES for i in range(500))
    for kind in (
        *("complex64", "torch.bool", "torch.int64", "nan in ", "cut to ", "scaling_factor = 0"),
        *("num_hidden_layers = 1" + 30 * "0", "merges.txt: ", "tokenizer_config.json: "),
        *("LoRA: ", "word: ", "controlnet --", "evaluate --", "lora --", "widget.x = "),
        *("stopped, training_state.safetensors: ", "stopped, training.json: ", "done, "),
        *("a student called '.dot", "bo's result: ", "a key b''", "--roster", "an answer "),
        *("begin_index=-1", "batch_size=", "widget.num_train_timesteps = ", "sample --steps"),
    ):
        assert kind in told, kind


def given(act, right=None, fault=lambda result: ""):
    return Input("x", act, right, fault)


def warned():
    warnings.warn("expected more", stacklevel=1)
    return 1


def ours():
    return make_betas("linear", 0)


@pytest.mark.parametrize(
    ("act", "right", "fault", "kind"),
    [
        (lambda: 1, True, "", "works"),
        (lambda: 1, None, "", "works"),
        (lambda: 1, False, "", "nonsense"),
        (lambda: 1, True, "another picture", "nonsense"),
        (warned, False, "", "warned"),
        (warned, None, "another picture", "warned"),
        (ours, False, "", "refused"),
        (ours, None, "", "refused"),
        (ours, True, "", "nonsense"),
        (lambda: read_json("/nowhere/file", "a test"), False, "", "refused"),
        (lambda: torch.zeros(2) @ torch.zeros(3), False, "", "traceback"),
        (
            lambda: make_betas("linear", 10, "a", b"b") + make_betas("linear", 9),
            False,
            "",
            "refused",
        ),
        (lambda: {}["key"], False, "", "traceback"),
        (lambda: int("seven"), False, "", "traceback"),
    ],
)
def test_what_comes_of_an_input_is_told_apart(act, right, fault, kind):
    assert judge(given(act, right, lambda result: fault)).kind == kind


def test_an_error_of_torchs_inside_minildm_is_none_of_ours(world):
    verdict = judge(given(lambda: world.pipeline.vae.decoder(torch.zeros(1))))
    assert verdict.kind == "traceback" and "autoencoder.py" in verdict.why


def test_pictures_that_are_none_are_a_fault():
    assert pictures(1, torch.zeros(1, 1, 2, 2)) == ""
    for wrong in (
        None,
        torch.zeros(2, 2),
        torch.full((1, 1, 2, 2), float("nan")),
        torch.ones(2, 1, 2, 2),
    ):
        assert pictures(1, wrong)
    assert pictures(1, torch.full((1, 1, 2, 2), 1.1))


def test_one_input_can_be_seen_again(capsys, monkeypatch):
    entry = (lambda rng, world: given(lambda: rng.random(), True), 1.0)
    monkeypatch.setitem(SURFACES, "tokenizer", entry)
    monkeypatch.setattr("abuse.World", lambda folder: None)
    assert main(["--again", "tokenizer/3"]) == 0
    assert capsys.readouterr().out.split() == ["x", "right:", "True", "fault:", "none"]
    assert make("tokenizer", 3, 0, None).act() == Random("0/tokenizer/3").random()
