"""What the widgets' pages show: the frame, the word, the number that Python says belongs to where
their sliders stand; and what moving those tells Python."""

import itertools
import math

import numpy as np
import pytest
import torch
from javascript import Page

from minildm.schedulers import DDPMScheduler
from minildm.widgets import (
    Patient,
    WordMaps,
    diagnosis,
    frame_slider,
    guidance_slider,
    prompt_playground,
    sampler_race,
    schedule_designer,
    word_attention_viewer,
)

GENERATOR = torch.Generator().manual_seed(0)


def pictures(*sizes):
    return torch.rand(*sizes, 1, 2, 2, generator=GENERATOR) * 2 - 1


def test_a_strip_shows_its_own_frame_and_the_dot_lies_on_its_own_curve():
    curves = {"a": [0.0, 2.0, 1.0], "b": [5.0, 4.0, 3.0]}
    captions = {name: [f"{name}{i}" for i in range(3)] for name in curves}
    widget = frame_slider({name: pictures(3) for name in curves}, captions, curves)
    page = Page("frames.js", widget)
    for choice, index in itertools.product(range(2), range(3)):
        page.set("choice", choice)
        page.set("index", index)
        (image,) = page.seen("img")
        assert image["src"] == widget.frames[choice][index]
        assert image["alt"] == widget.captions[choice][index]
        (dot,) = page.seen("circle")
        line = page.seen("polyline")[choice]["attributes"]["points"].split()
        place = [float(dot["attributes"][axis]) for axis in ("cx", "cy")]
        assert place == pytest.approx([float(number) for number in line[index].split(",")])
        # across the whole width; from the largest value of all curves, at the top, to the least
        height = 6 + 168 * (5 - widget.curves[choice][index]) / 5
        assert place == pytest.approx([6 + 288 * index / 2, height])


def test_the_reader_moves_the_trait_that_python_reads():
    widget = frame_slider({"a": pictures(3), "b": pictures(3)}, {"a": "012", "b": "345"})
    page = Page("frames.js", widget)
    page.happen("input", 0, "input", "2")
    page.happen("select", 0, "input", "1")
    assert (page.get("index"), page.get("choice")) == (2, 1)
    assert page.seen("img")[0]["src"] == widget.frames[1][2]


def test_films_go_on_together():
    films = {"slow": list(pictures(3, 2)), "fast": list(pictures(3, 2))}
    captions = {"slow": ["9", "4", "2"], "fast": ["3", "1", "0"]}
    widget = sampler_race(films, [1, 5, 20], captions)
    page = Page("films.js", widget)
    for index in (2, 0, 1):
        page.happen("input", 0, "input", str(index))
        shown = [(image["src"], image["alt"]) for image in page.seen("img")]
        assert shown == [
            (widget.frames[k][index], f"{name}, {widget.stops[index]}, {captions[name][index]}")
            for k, name in enumerate(films)
        ]
        assert page.seen("output")[0]["text"] == widget.stops[index]


def test_a_word_shows_the_map_of_that_word_at_that_step_of_that_prompt():
    """A prompt of fewer steps shows its last where the slider stood further on."""
    drawn = {
        "a red three": WordMaps(
            ["a", "red", "three"],
            pictures(3).expand(-1, 3, -1, -1),
            torch.rand(3, 3, 2, 2, generator=GENERATOR),
            ["t = 9", "t = 5", "t = 1"],
        ),
        "two": WordMaps(
            ["two"],
            pictures(2).expand(-1, 3, -1, -1),
            torch.rand(2, 1, 2, 2, generator=GENERATOR),
            ["t = 9", "t = 1"],
        ),
    }
    widget = word_attention_viewer(drawn)
    page = Page("words.js", widget)
    for choice, word, index in [(0, 2, 1), (0, 0, 2), (0, 1, 0), (1, 0, 2), (1, 0, 0)]:
        for trait, value in (("choice", choice), ("word", word), ("index", index)):
            page.set(trait, value)
        at = min(index, len(widget.stops[choice]) - 1)
        assert [image["src"] for image in page.seen("img")] == [
            widget.pictures[choice][at],
            widget.overlays[choice][at][word],
        ]
        assert page.seen("img")[1]["alt"].endswith(widget.shares[choice][at][word])
    page.set("choice", 0)
    buttons = [button["text"] for button in page.seen("button")]
    page.happen("button", buttons.index("three"), "click")
    assert page.get("word") == 2


def test_guidance_shows_its_pictures_and_the_measured_value_between_two_measurements():
    scales, curve = [1.0, 1.5, 3.0, 9.0], ([1.0, 2.0, 4.0, 8.0], [0.5, 0.9, 0.8, 0.1])
    widget = guidance_slider({"seven": list(pictures(4, 2))}, scales, {"accuracy": curve})
    page = Page("guidance.js", widget)
    for index, scale in enumerate(scales):
        page.set("index", index)
        assert page.seen("img")[0]["src"] == widget.frames[0][index]
        value = float(page.seen("figcaption")[0]["text"].removeprefix("accuracy: "))
        assert value == pytest.approx(np.interp(scale, *curve), rel=5e-3)
        assert page.seen("output")[0]["text"] == f"guidance {scale:g}"


def test_the_playground_shows_the_place_of_its_sheet_that_python_drew_there():
    options = [["a", "b"], ["", "x"], [1.0, 2.0, 4.0], [2, 5], [0, 1, 2, 3]]
    widget = prompt_playground(lambda prompts, *_: pictures(len(prompts)), *options)
    page = Page("playground.js", widget)
    for place in [(0, 0, 0, 0, 0), (1, 1, 2, 1, 3), (0, 1, 0, 1, 2), (1, 0, 2, 0, 1)]:
        for k, value in enumerate(place):
            page.happen(*(("select", k) if k < 2 else ("input", k - 2)), "input", str(value))
        assert page.get("place") == list(place)
        (picture,) = [div for div in page.seen("div") if "backgroundImage" in div["style"]]
        assert picture["style"]["backgroundImage"] == f"url({widget.sheets[place[0]]})"
        # the product's order: the seed, which is the column, changes fastest; 0 % is the first
        row = list(np.ndindex(2, 3, 2)).index(place[1:4])
        across, down = (
            float(part.rstrip("%")) for part in picture["style"]["backgroundPosition"].split()
        )
        assert (across, down) == pytest.approx((100 * place[4] / 3, 100 * row / 11))
        assert picture["style"]["backgroundSize"] == "400% 1200%"


def test_the_diagnosis_answers_the_choice_that_was_made_of_the_patient_on_show():
    patients = {
        "A": Patient(pictures(2), "spots", "measles", "Look at the spots."),
        "B": Patient(pictures(2), "a toe", "gout", "Look at the toe."),
    }
    widget = diagnosis(patients, ["measles", "flu", "gout"])
    page = Page("diagnosis.js", widget)
    assert page.seen("output")[0]["text"] == "0 of 2 diagnosed"
    page.happen("select", 0, "input", "1")
    assert page.seen("img")[0]["src"] == widget.pictures[1]
    page.happen("select", 1, "input", "3")  # before the choices stands a question
    assert (page.get("patient"), page.get("choice")) == (1, 2)
    page.happen("form", 0, "submit")
    assert page.get("solved") == [1] and page.seen("output")[0]["text"] == "1 of 2 diagnosed"
    assert page.seen("div")[-1]["text"] == "Yes. Look at the toe."
    page.happen("select", 0, "input", "0")
    assert page.get("choice") == -1 and page.seen("div")[-1]["text"] == ""


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("linear", (1e-4, 0.02)),
        ("scaled_linear", (0.00085, 0.012)),
        ("squaredcos_cap_v2", (1e-4, 0.02)),
        ("sigmoid", (1e-4, 0.02)),
    ],
)
def test_the_schedule_designer_shows_what_the_scheduler_makes_of_the_picture(name, ends, rescale):
    image = torch.rand(1, 3, 3, 4, generator=GENERATOR) * 2 - 1
    noise = torch.randn(1, 3, 3, 4, generator=GENERATOR)
    page = Page("schedule.js", schedule_designer(image, noise))
    settings = {"beta_schedule": name, "beta_start": ends[0], "beta_end": ends[1]}
    for trait, value in {**settings, "rescale": rescale}.items():
        page.set(trait, value)
    scheduler = DDPMScheduler(
        **settings, rescale_betas_zero_snr=rescale, prediction_type="v_prediction"
    )
    alpha_prod_t = scheduler.alphas_cumprod
    for t in (0, 137, 500, 999):
        page.set("t", t)
        xt = scheduler.add_noise(image, noise, torch.tensor([t]))[0].permute(1, 2, 0)
        shown = torch.tensor(page.seen("canvas")[0]["pixels"]).reshape(3, 4, 4)
        assert (shown[..., 3] == 255).all()
        expected = (xt.clamp(-1, 1) + 1) * 127.5
        assert (shown[..., :3] - expected).abs().max() < 0.51
        told = page.seen("figcaption")[0]["text"]
        alpha = float(told.removeprefix("ᾱ = ").split("\n")[0].replace("−", "-"))
        assert alpha == pytest.approx(alpha_prod_t[t].item(), rel=0.05, abs=1e-6)
    facts = page.seen("div")[-1]["text"]
    assert f"tie at t = {int((alpha_prod_t > 0.5).sum())};" in facts
    lost = math.floor(100 * (alpha_prod_t < 0.01).double().mean().item() + 0.5)
    assert f"{lost} % of the steps" in facts


def test_the_end_that_is_not_dragged_gives_way():
    page = Page("schedule.js", schedule_designer(torch.zeros(1, 1, 2, 2)))
    places = [element["attributes"].get("aria-label") for element in page.seen("input")]
    page.happen("input", places.index("beta_start"), "input", "-1")
    assert (page.get("beta_start"), page.get("beta_end")) == pytest.approx((0.1, 0.1))
    page.happen("input", places.index("beta_end"), "input", "-3")
    assert (page.get("beta_start"), page.get("beta_end")) == pytest.approx((1e-3, 1e-3))
    page.happen("input", places.index("beta_end"), "input", "-2")
    assert (page.get("beta_start"), page.get("beta_end")) == pytest.approx((1e-3, 1e-2))
