"""minildm.training.own_pictures: recipes that fit the pictures, and a record that names them."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from minildm.data import TextImageDataset, datasets
from minildm.data.clusters import CLUSTERS
from minildm.evaluation import cost, evaluate
from minildm.models import AutoencoderKL, ImageClassifier, UNet2DConditionModel
from minildm.pipelines import StableDiffusionPipeline
from minildm.training import OWN_PICTURES, PRESETS, describe_data, recipe_for, runs, train
from minildm.training.own_pictures import perceptual_labels

STEPS = (2, 2, 2)
QUIET = {"steps": STEPS, "device": "cpu", "progress": False}


def pictures(size=32, channels=3, count=40, classes=("cat", "dog"), seed=0, words="a picture of"):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, channels, size, size), generator=generator) / 127.5 - 1
    labels = torch.arange(count) % len(classes)
    captions = [[f"{words} {name}"] for name in classes]
    return TextImageDataset(
        images=images,
        labels=labels,
        captions=captions,
        caption_of=labels,
        texts=[text for texts in captions for text in texts],
        classes=classes,
        about={"name": "pets", "fit": "crop", "background": "white"},
    )


def tiny(data):
    """A recipe for these pictures that trains in a moment."""
    small = PRESETS["tiny"]
    recipe = recipe_for(data)
    return replace(
        recipe,
        **{
            stage: replace(getattr(recipe, stage), batch_size=4)
            for stage in ("perceptual_net", "autoencoder", "denoiser")
        },
        vae={
            **recipe.vae,
            "block_out_channels": (4,) * len(recipe.vae["block_out_channels"]),
            "norm_num_groups": 2,
        },
        text_encoder={
            **small.text_encoder,
            "max_position_embeddings": recipe.text_encoder["max_position_embeddings"],
        },
    )


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_networks_of_a_recipe_take_the_pictures_and_their_latents(size, channels):
    data = pictures(size, channels)
    recipe = recipe_for(data)
    vae, net = AutoencoderKL(**recipe.vae), ImageClassifier(**recipe.classifier)
    assert recipe.image_size == size
    assert net(data.images[:2]).shape == (2, len(data.classes) + CLUSTERS)
    z = vae.encode(data.images[:2]).mean
    assert vae.decode(z).shape == (2, channels, size, size)
    assert z.shape[-1] == recipe.unet["sample_size"]
    unet = UNet2DConditionModel(
        **recipe.unet,
        in_channels=z.shape[1],
        out_channels=z.shape[1],
        cross_attention_dim=recipe.text_encoder["hidden_size"],
    )
    context = torch.zeros(2, 5, recipe.text_encoder["hidden_size"])
    assert unet(z, torch.tensor([1, 2]), context).shape == z.shape


def test_at_64_autoencoder_and_u_net_have_a_level_more_and_a_u_net_step_costs_no_more_by_half():
    small, large = recipe_for(pictures(32)), recipe_for(pictures(64))

    def levels(recipe):
        return len(recipe.vae["block_out_channels"]), len(recipe.unet["block_out_channels"])

    assert levels(large) == tuple(number + 1 for number in levels(small))

    def flops(recipe):
        side, channels = recipe.unet["sample_size"], recipe.vae["latent_channels"]
        width = recipe.text_encoder["hidden_size"]
        unet = UNet2DConditionModel(
            **recipe.unet, in_channels=channels, out_channels=channels, cross_attention_dim=width
        )
        z = torch.empty(1, channels, side, side)
        return cost(unet, z, torch.zeros(1, dtype=torch.long), torch.empty(1, 16, width)).flops

    assert flops(large) < 1.5 * flops(small)


@pytest.mark.parametrize(
    ("words", "length"), [(1, 16), (14, 16), (15, 32), (30, 32), (31, 77), (75, 77), (200, 77)]
)
def test_the_text_encoder_has_room_for_the_longest_caption_up_to_stable_diffusions_77(
    words, length
):
    data = pictures(words="word " * (words - 2) + "of" if words > 1 else "")
    longest = max(len(texts[0].split()) for texts in data.captions)
    assert longest == words
    assert recipe_for(data).text_encoder["max_position_embeddings"] == length


def test_half_of_the_pictures_teach_the_perceptual_net_their_labels_and_half_their_colours():
    """Where left and right halves of the set differ in nothing but brightness, that is what the
    colours' labels say."""
    data = pictures(count=80)
    dark = torch.arange(80) >= 40
    data = replace(data, images=torch.where(dark[:, None, None, None], -0.8, 0.6) + data.images / 9)
    recipe = recipe_for(data)
    labels = perceptual_labels(recipe, data)
    assert torch.equal(labels[::2], data.labels[::2])
    told, kinds = labels[1::2], recipe.classifier["num_classes"]
    assert told.min() >= 2 and told.max() < kinds
    assert not set(told[:20].tolist()) & set(told[20:].tolist())
    assert torch.equal(perceptual_labels(PRESETS["scenes"], data), data.labels)


def test_captions_that_do_not_fit_are_counted_in_one_warning(tmp_path):
    data = pictures(words="word " * 90)
    with pytest.warns(UserWarning) as caught:
        train(tiny(data), tmp_path, data=data, **QUIET)
    said = [str(warning.message) for warning in caught if "captions" in str(warning.message)]
    assert said == [
        "2 of 2 captions are longer than the 77 tokens that fit (the longest: 93); "
        "their ends are cut off"
    ]


def test_other_sizes_and_pictures_that_are_not_the_recipes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"S of 32, 64, got \(40, 3, 48, 48\)"):
        recipe_for(pictures(48))
    with pytest.raises(ValueError, match=r"expected pictures \(N, 3, 32, 32\).*got \(40, 3, 64"):
        train(recipe_for(pictures(32)), tmp_path, data=pictures(64), **QUIET)
    three = pictures(classes=("cat", "dog", "emu"))
    with pytest.raises(ValueError, match="expected labels from 0 to 1 .*, got 0 to 2"):
        train(recipe_for(pictures()), tmp_path, data=three, **QUIET)
    with pytest.raises(ValueError, match="expected data to train on"):
        train(recipe_for(pictures()), tmp_path, **QUIET)


def test_another_picture_caption_or_label_is_another_fingerprint_and_another_name_is_not():
    data = pictures()
    same = describe_data(data)["fingerprint"]
    assert same == describe_data(pictures())["fingerprint"]
    assert same == describe_data(replace(data, about={"name": "zoo"}))["fingerprint"]
    brighter = data.images.clone()
    brighter[39, 2, 31, 31] = 1 - brighter[39, 2, 31, 31].sign()
    swapped = data.labels.flip(0)
    others = [
        replace(data, images=brighter),
        replace(data, labels=swapped),
        replace(data, caption_of=swapped),
        pictures(words="a drawing of"),
        pictures(count=39),
    ]
    assert same not in {describe_data(other)["fingerprint"] for other in others}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("own") / "model"
    data = pictures(classes=("cat", "dog", "emu"))
    train(tiny(data), out, data=data, **QUIET)
    return out, data


def test_record_and_card_describe_the_pictures(trained):
    out, data = trained
    log = json.loads((out / "training.json").read_text())
    card = json.loads((out / "minildm.json").read_text())
    assert card["data"] == log["data"] == describe_data(data)
    assert log["data"]["classes"] == ["cat", "dog", "emu"] and log["data"]["pictures"] == 40
    assert card["dataset"] == OWN_PICTURES and card["image_size"] == 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"about": {"fit": "pad", "background": "white"}},
            "expected to go on with fit crop, got fit pad",
        ),
        ({"about": {"name": "zoo"}}, r"pictures of before, pets: 40 with .*, got zoo: 40 with"),
    ],
)
def test_other_pictures_do_not_resume_a_training(trained, changes, message):
    out, data = trained
    other = replace(data, images=-data.images, **changes)
    with pytest.raises(ValueError, match=message):
        train(tiny(data), out, data=other, resume=True, **QUIET)


def test_a_training_of_own_pictures_is_resumed_bit_for_bit(trained, tmp_path, monkeypatch):
    out, data = trained

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "train_denoiser", stop)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(data), tmp_path, data=data, **QUIET)
    moved = replace(data, about={**data.about, "name": "pets-2"})
    train(tiny(data), tmp_path, data=moved, resume=True, **QUIET)
    logs = [json.loads((folder / "training.json").read_text()) for folder in (out, tmp_path)]
    assert logs[0]["losses"] == logs[1]["losses"]


def test_the_fashion_mnist_preset_trains_on_the_published_files(tmp_path, monkeypatch):
    """Twenty small pictures in the format of the real files, found by MINILDM_DATA."""
    name, folder, _ = datasets.PUBLISHED["fashion_mnist"]
    (tmp_path / folder).mkdir(parents=True)
    digests = {}
    for split, count in (("train", 20), ("t10k", 10)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array, magic in (("images-idx3", pixels, 2051), ("labels-idx1", labels, 2049)):
            content = np.array([magic, *array.shape], ">u4").tobytes() + array.tobytes()
            (tmp_path / folder / f"{split}-{kind}-ubyte").write_bytes(content)
            digests[f"{split}-{kind}-ubyte"] = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(datasets.PUBLISHED, "fashion_mnist", (name, folder, digests))
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    train("fashion_mnist", tmp_path / "model", **{**QUIET, "steps": (1, 1, 1)})
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    assert (pipeline.card["dataset"], pipeline.card["image_size"]) == ("fashion_mnist", 28)
    assert pipeline("a picture of a sneaker", progress=False).shape == (1, 1, 32, 32)
    with pytest.raises(ValueError, match="expected an examiner for fashion_mnist"):
        evaluate(pipeline, 10)
