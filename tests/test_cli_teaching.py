"""`minildm lora`, `invert` and `controlnet`: their files beside diffusers, resumed, refused."""

import json
import os
import signal

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_cli import one_line, run
from test_cli_adding import assert_same, drawn, drawn_by
from tiny import tiny_pipeline

from minildm.files import read_card_entry
from minildm.training import Trainer
from minildm.variations import load_word

pytest_plugins = ["tiny"]

PROMPTS = ["a handwritten heart", "the digit 3"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Files without a folder land here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hearts(tmp_path):
    """Eight pictures with captions and a map beside each."""
    folder = tmp_path / "hearts"
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = []
    for i in range(8):
        pixels = random.integers(0, 255, (40, 40), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(np.uint8(pixels > 128)).save(folder / f"{i}.map.png")
        line = {"file_name": f"{i}.png", "text": "a handwritten heart" if i % 2 else "the heart"}
        lines.append(json.dumps(line))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def teach(command, folder, hearts, out, *options):
    """Run a command for a short time."""
    quick = () if "--minutes" in options or "--steps" in options else ("--steps", 6)
    return run(command, "--model", folder, "--data", hearts, "--out", out, *options, *quick)


# --------------------------------------------------------------------- files that diffusers opens


def test_a_lora_is_trained_and_diffusers_draws_the_same_with_its_file(tiny_folder, tiny, hearts):
    result = teach("lora", tiny_folder, hearts, "h.safetensors", "--learning-rate", 0.05)
    assert result.exit_code == 0, result.output
    assert "7 pictures to learn from" in result.stdout  # the eighth is held out
    command = result.stdout.splitlines()[-1].partition("draws with: ")[2]
    assert command.startswith("minildm sample '") and command.endswith("--lora h.safetensors")
    plain, whole = drawn(tiny_folder), drawn(tiny_folder, "--lora", "h.safetensors")
    some = drawn(tiny_folder, "--lora", "h.safetensors:0.5")
    assert np.abs(plain - whole).max() > 5 and np.abs(some - whole).max() > 2
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    theirs.load_lora_weights(".", weight_name="h.safetensors")
    assert_same(whole, drawn_by(theirs, tiny))
    theirs.set_adapters(["default_0"], [0.5])
    assert_same(some, drawn_by(theirs, tiny))


def test_a_word_is_trained_and_diffusers_draws_the_same_with_its_file(tiny_folder, tiny, hearts):
    prompts = ["a <heart> seven", "the <heart>"]
    options = ("--word", "<heart>", "--learning-rate", 0.5)
    result = teach("invert", tiny_folder, hearts, "w.safetensors", *options)
    assert result.exit_code == 0, result.output
    assert "<heart>" in result.stdout.splitlines()[-1]
    word, vector = load_word("w.safetensors")
    assert word == "<heart>" and vector.shape == (12,)
    ours = drawn(tiny_folder, "--word", "w.safetensors", prompts=prompts)
    assert np.abs(ours - drawn(tiny_folder, prompts=prompts)).max() > 5
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    theirs.load_textual_inversion("w.safetensors")
    assert_same(ours, drawn_by(theirs, tiny, prompts))


@pytest.mark.parametrize("classes", [None, 2])
def test_a_controlnet_is_trained_and_diffusers_draws_the_same_with_its_folder(
    tiny_folder, tiny, hearts, classes
):
    options = ("--learning-rate", 0.05, *(() if classes is None else ("--classes", classes)))
    result = teach("controlnet", tiny_folder, hearts, "c", *options)
    assert result.exit_code == 0, result.output
    map_file = hearts / "3.map.png"
    ours = drawn(tiny_folder, "--control", map_file, "--controlnet", "c")
    assert np.abs(ours - drawn(tiny_folder)).max() > 5
    controlnet = diffusers.ControlNetModel.from_pretrained("c")
    parts = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder).components
    theirs = diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=controlnet)
    theirs.control_image_processor.config.do_convert_rgb = False
    numbers = Image.open(map_file)
    if classes is None:
        small = np.asarray(numbers.resize((28, 28), Image.Resampling.LANCZOS)) / 255
        planes = np.stack([small] * 3)
    else:
        small = np.asarray(numbers.resize((28, 28), Image.Resampling.NEAREST))
        planes = np.stack([small == 0, small == 1])
    image = torch.nn.functional.pad(torch.tensor(planes, dtype=torch.float32), (2,) * 4)
    if classes is not None:
        image[0] = 1 - image[1]  # the frame is of class 0
    assert_same(ours, drawn_by(theirs, tiny, image=image[None].expand(2, -1, -1, -1)))


# ------------------------------------------------------------------------------ cards, and resuming


def test_the_files_say_how_they_came_to_be_and_nothing_is_left_beside_them(
    tiny_folder, hearts, tmp_path
):
    before = set(tmp_path.iterdir())
    assert teach("lora", tiny_folder, hearts, "h.safetensors", "--rank", 2).exit_code == 0
    options = ("--word", "<heart>", "--seed", 3)
    assert teach("invert", tiny_folder, hearts, "w.safetensors", *options).exit_code == 0
    assert teach("controlnet", tiny_folder, hearts, "c", "--classes", 2).exit_code == 0
    made = {path.name for path in set(tmp_path.iterdir()) - before}
    assert made == {"h.safetensors", "w.safetensors", "c"}
    lora, word = read_card_entry("h.safetensors"), read_card_entry("w.safetensors")
    controlnet = json.loads((tmp_path / "c/minildm.json").read_text())
    kinds = [card["addition"] for card in (lora, word, controlnet)]
    assert kinds == ["lora", "word", "controlnet"]
    assert lora["rank"] == 2 and lora["words"] == ["heart"] and word["seed"] == 3
    assert controlnet["classes"] == 2
    for card in (lora, word, controlnet):
        assert card["steps"] == 6 and card["for"] == "tiny" and card["data"]["name"] == "hearts"
        assert str(tmp_path) not in json.dumps(card)


def stopped_at(step):
    """Ctrl-C in the middle of a training's step."""
    before = Trainer.__init__

    def init(self, name, loss, batch, *arguments, **options):
        def interrupted(i):
            if i == step:
                os.kill(os.getpid(), signal.SIGINT)
            return batch(i)

        before(self, name, loss, interrupted, *arguments, **options)

    return init


COMMANDS = {
    "lora": ((), "out.safetensors", "out.safetensors"),
    "invert": (("--word", "<heart>"), "out.safetensors", "out.safetensors"),
    "controlnet": ((), "out", "out/diffusion_pytorch_model.safetensors"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupted_training_goes_on_exactly(tiny_folder, hearts, monkeypatch, command):
    options, out, file = COMMANDS[command]
    assert teach(command, tiny_folder, hearts, f"whole/{out}", *options).exit_code == 0
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "__init__", stopped_at(3))
        stopped = teach(command, tiny_folder, hearts, out, *options)
    assert stopped.exit_code == 130
    said = stopped.stderr.splitlines()[-1]
    assert said == "minildm: interrupted; the same command with --resume goes on from here"
    one_line(teach(command, tiny_folder, hearts, out, *options), "holds a training", "--resume")
    resumed = teach(command, tiny_folder, hearts, out, *options, "--resume")
    assert resumed.exit_code == 0, resumed.output
    whole, again = load_file(f"whole/{file}"), load_file(file)
    assert whole.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())
    done = teach(command, tiny_folder, hearts, out, *options, "--resume")
    assert done.exit_code == 0 and "finished" in done.stdout
    one_line(teach(command, tiny_folder, hearts, out, *options), "got", out, "which is there")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--rank", 3), ["got one with another rank"]),
        (("--seed", 1), ["seed 0, got 1"]),
        (("--steps", 9), ["recorded steps (6)"]),
        (("--keep", "keep.txt"), ["another keep"]),
        ("another caption", ["pictures of before"]),
        ("another model", ["another unet"]),
    ],
)
def test_going_on_with_something_else_is_refused(
    tiny_folder, hearts, tmp_path, monkeypatch, changed, words
):
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "__init__", stopped_at(3))
        assert teach("lora", tiny_folder, hearts, "h.safetensors").exit_code == 130
    (tmp_path / "keep.txt").write_text("the digit 3")
    folder = tiny_folder
    if changed == "another caption":
        lines = (hearts / "metadata.jsonl").read_text()
        (hearts / "metadata.jsonl").write_text(lines.replace("the heart", "one heart"))
    elif changed == "another model":
        folder = tmp_path / "tiny"
        tiny_pipeline(seed=1).save_pretrained(folder)
    options = () if isinstance(changed, str) else changed
    result = teach("lora", folder, hearts, "h.safetensors", "--resume", *options)
    assert result.exit_code == 2, result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("minildm: ") and all(word in line for word in words), line


def test_minutes_are_counted_once_and_recorded(tiny_folder, hearts, monkeypatch):
    monkeypatch.setattr(Trainer, "steps_within", lambda self, seconds, device: int(seconds))
    result = teach("lora", tiny_folder, hearts, "h.safetensors", "--minutes", 0.1)
    assert result.exit_code == 0, result.output
    assert read_card_entry("h.safetensors")["steps"] == 6


def test_what_shall_stay_is_drawn_by_the_model_and_trained_along(tiny_folder, hearts):
    (hearts.parent / "keep.txt").write_text("the digit 3\nthe number seven\n")
    asked = ("--keep", "keep.txt")
    assert teach("lora", tiny_folder, hearts, "k.safetensors", *asked).exit_code == 0
    assert teach("lora", tiny_folder, hearts, "d.safetensors").exit_code == 0
    kept, by_itself = (read_card_entry(f"{name}.safetensors")["keep"] for name in "kd")
    assert kept.startswith("2 prompts") and by_itself.startswith("80 prompts")
    one = load_file("k.safetensors")
    assert any(not torch.equal(x, one[key]) for key, x in load_file("d.safetensors").items())


def test_captions_get_the_word_where_they_say_something_else(tiny_folder, hearts):
    options = ("--word", "<thing>", "--in-place-of", "heart")
    result = teach("invert", tiny_folder, hearts, "w.safetensors", *options)
    assert result.exit_code == 0 and "handwritten <thing>" in result.stdout + "handwritten <thing>"
    result = teach("invert", tiny_folder, hearts, "v.safetensors", "--word", "<dog>")
    line = result.stderr.strip().splitlines()[-1]
    assert result.exit_code == 2 and "expected captions with <dog> or dog, got 'the heart'" in line


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("lora --steps 1 --minutes 1", ["--steps or --minutes, got both"]),
        ("lora --steps 0", ["--steps", "got 0"]),
        ("lora --minutes nan", ["--minutes", "got nan"]),
        ("lora --learning-rate -1", ["--learning-rate", "got -1"]),
        ("lora --rank 0", ["--rank: expected 1 or more, got 0"]),
        ("lora --keep absent.txt", ["--keep", "absent.txt"]),
        ("invert", ["--word"]),
        ("invert --word seven", ["expected a new word, got 'seven'"]),
        ("invert --word <heart> --like zebra", ["expected a word of one token, got 'zebra'"]),
        ("controlnet --classes 1", ["--classes", "got 1"]),
        ("controlnet --classes 2 --learning-rate nan", ["--learning-rate", "got nan"]),
    ],
)
def test_what_cannot_be_taught_is_one_line_and_leaves_nothing(
    tiny_folder, hearts, tmp_path, arguments, words
):
    command, *options = arguments.split()
    out = "o" if command == "controlnet" else "o.safetensors"
    result = run(command, "--model", tiny_folder, "--data", hearts, "--out", out, *options)
    assert result.exit_code == 2, (result.output, result.exception)
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("minildm: ") and all(word in line for word in words), line
    assert not (tmp_path / "o.safetensors").exists()
    assert not list(tmp_path.glob("*.training"))


def test_maps_and_pictures_that_do_not_match_are_one_line(tiny_folder, hearts):
    def refused(*options):
        result = teach("controlnet", tiny_folder, hearts, "c", *options)
        assert result.exit_code == 2 and not list(hearts.parent.glob("*.training"))
        return result.stderr.strip().splitlines()[-1]

    Image.new("L", (40, 40), 7).save(hearts / "2.map.png")
    assert "2.map.png: expected numbers of classes from 0 to 1, got 7" in refused("--classes", 2)
    Image.new("L", (20, 40)).save(hearts / "2.map.png")
    assert "2.map.png: expected a map of its picture's size, 40 x 40, got 20 x 40" in refused()
    (hearts / "2.map.png").rename(hearts / "two.map.png")
    assert "two.map.png: expected the picture of this map beside it" in refused()
    (hearts / "two.map.png").unlink()
    assert "2.png: expected its map 2.map.png beside it, got none" in refused()


def test_a_model_of_few_steps_is_taught_through_its_teacher(tmp_path, hearts):
    few = tiny_pipeline()
    few.use_sampler("lcm").save_pretrained(tmp_path / "few")
    result = teach("lora", "few", hearts, "h.safetensors")
    one_line(result, "expected a model that was trained to denoise", "teach its teacher")


def test_a_lora_says_which_words_it_knows_and_whose_it_is(tiny_folder, hearts, tmp_path):
    assert teach("lora", tiny_folder, hearts, "h.safetensors").exit_code == 0
    result = run("sample", *PROMPTS, "--model", tiny_folder)
    assert "never saw 'heart'" in result.stderr
    result = run("sample", *PROMPTS, "--model", tiny_folder, "--lora", "h.safetensors")
    assert "never saw" not in result.stderr and "another model" not in result.stderr
    tiny_pipeline(seed=1).save_pretrained(tmp_path / "other")
    result = run("sample", *PROMPTS, "--model", "other", "--lora", "h.safetensors")
    assert result.exit_code == 0 and "h.safetensors was trained for another model (tiny)" in (
        result.stderr
    )


def test_help_shows_the_commands_in_groups_and_the_options_of_sample_too():
    shown = run("--help").stdout
    places = [shown.index(word) for word in ("Train ", "Draw and score", "Teach a trained model")]
    assert places == sorted(places)
    for command in ("lora", "invert", "controlnet"):
        assert shown.index(f" {command} ") > places[2]
        assert run(command, "--help").exit_code == 0
    shown = run("sample", "--help").stdout
    assert "What was learned besides" in shown and "Pictures to begin from" in shown
