"""The text encoder against transformers', with the same weights."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from minildm.testing import assert_parity, randomise_
from minildm.text import CLIPTextModel

TINY = dict(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=32,
    projection_dim=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=12,
    bos_token_id=48,
    eos_token_id=49,
    pad_token_id=49,
)
CONFIGS = {
    "two layers, Stable Diffusion 1's activation": TINY,
    "Stable Diffusion 2's activation": TINY | dict(hidden_act="gelu"),
    "one layer, one head": TINY | dict(num_hidden_layers=1, num_attention_heads=1),
    "many small heads": TINY | dict(num_attention_heads=8, intermediate_size=24),
    "three layers, other epsilon, odd sizes": TINY
    | dict(
        num_hidden_layers=3,
        hidden_size=21,
        num_attention_heads=3,
        layer_norm_eps=1e-3,
        projection_dim=5,
    ),
    "the old end-of-text id": TINY | dict(eos_token_id=2, bos_token_id=0, pad_token_id=1),
    "context of one token": TINY | dict(max_position_embeddings=1),
}


def pair(name):
    config = CONFIGS[name]
    return CLIPTextModel(**config), transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**config)
    )


def ids(config, length=None):
    """Begin, words, end, padding: one row full, one half full, one empty."""
    length = min(length or 12, config["max_position_embeddings"])
    rows = torch.randint(3, 48, (3, length), generator=torch.Generator().manual_seed(0))
    rows[:, 0] = 48
    for row, end in zip(rows, (length - 1, length // 2, min(1, length - 1)), strict=True):
        row[end:] = 49
    return rows


@pytest.mark.parametrize("length", [12, 7])
@pytest.mark.parametrize("name", CONFIGS)
def test_text_encoder_is_transformers(name, length):
    ours, theirs = pair(name)
    assert_parity(ours, theirs, (ids(CONFIGS[name], length),))


@pytest.mark.parametrize("name", CONFIGS)
def test_pooled_output_is_transformers(name):
    ours, theirs = pair(name)
    input_ids = ids(CONFIGS[name])
    pooled = dict(
        call_ours=lambda model, x: model.pool(model(x), x),
        call_theirs=lambda model, x: model(x).pooler_output,
    )
    assert_parity(ours, theirs, (input_ids,), **pooled)


def test_the_pooled_state_is_that_of_the_first_end():
    model = CLIPTextModel(**TINY)
    states = torch.randn(2, 5, 16)
    input_ids = torch.tensor([[48, 3, 49, 49, 49], [48, 49, 49, 3, 49]])
    torch.testing.assert_close(
        model.pool(states, input_ids), torch.stack([states[0, 2], states[1, 1]]), rtol=0, atol=0
    )


def test_a_token_does_not_see_those_after_it():
    model = randomise_(CLIPTextModel(**TINY))
    input_ids = ids(TINY)
    changed = input_ids.clone()
    changed[:, 5:] = 7
    torch.testing.assert_close(model(changed)[:, :5], model(input_ids)[:, :5])
    assert not torch.allclose(model(changed)[:, 5:], model(input_ids)[:, 5:])


def test_ids_that_are_no_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="expected input_ids of whole numbers"):
        CLIPTextModel(**TINY)(ids(TINY).float())


@pytest.mark.parametrize("name", CONFIGS)
def test_folders_open_both_ways(name, tmp_path):
    ours, theirs = (randomise_(model).eval() for model in pair(name))
    input_ids = ids(CONFIGS[name])
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    opened = transformers.CLIPTextModel.from_pretrained(tmp_path / "ours")
    assert all(getattr(opened.config, key) == value for key, value in ours.config.items())
    torch.testing.assert_close(
        opened(input_ids).last_hidden_state, ours(input_ids), rtol=1e-5, atol=1e-5
    )
    opened = CLIPTextModel.from_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(
        opened(input_ids), theirs(input_ids).last_hidden_state, rtol=1e-5, atol=1e-5
    )
    assert opened.config == ours.config


def test_a_folder_of_an_older_transformers_opens(tmp_path):
    model = randomise_(CLIPTextModel(**TINY))
    model.save_pretrained(tmp_path)
    file = tmp_path / model.weights_name
    old = {f"text_model.{key}": value for key, value in load_file(file).items()}
    save_file(old | {"text_model.embeddings.position_ids": torch.arange(12)[None]}, file)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= dict(
        _name_or_path="openai/clip",
        torch_dtype="float32",
        transformers_version="4.21.0.dev0",
        dropout=0.0,
    )
    config |= dict(attention_dropout=0.0, initializer_factor=1.0, initializer_range=0.02)
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.testing.assert_close(
        CLIPTextModel.from_pretrained(tmp_path).state_dict(), model.state_dict(), rtol=0, atol=0
    )


def test_default_configuration_is_transformers():
    defaults = transformers.CLIPTextConfig().to_dict()
    with torch.device("meta"):
        model = CLIPTextModel()
        theirs = transformers.CLIPTextModel(transformers.CLIPTextConfig())
    assert all(defaults[key] == value for key, value in model.config.items())
    shapes = [
        {key: value.shape for key, value in each.state_dict().items()} for each in (model, theirs)
    ]
    assert shapes[0] == shapes[1]


def test_another_model_is_refused(tmp_path):
    CLIPTextModel(**TINY).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(
        ValueError,
        match="config.json: expected a CLIPTextModel .model_type = 'clip_text_model'., got 'bert'",
    ):
        CLIPTextModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
    with pytest.raises(
        ValueError, match="CLIPTextModel supports only attention_dropout = 0.0, got 0.1"
    ):
        CLIPTextModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(hidden_act="relu"), "hidden_act to be one of quick_gelu, gelu, got 'relu'"),
        (dict(num_attention_heads=3), "hidden_size that 3 heads divide, got 16"),
    ],
)
def test_wrong_configurations_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        CLIPTextModel(**(TINY | change))


def test_a_prompt_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match=r"L at most 12, got \(1, 13\)"):
        CLIPTextModel(**TINY)(torch.zeros(1, 13, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\(B, L\)"):
        CLIPTextModel(**TINY)(torch.zeros(13, dtype=torch.long))


def test_each_text_is_pooled_at_its_own_end():
    model = CLIPTextModel(**TINY | {"vocab_size": 9, "eos_token_id": 8})
    ids = torch.tensor([[1, 8, 8], [1, 2, 8]])
    states = torch.randn(2, 3, 4)
    assert torch.equal(model.pool(states, ids), torch.stack([states[0, 1], states[1, 2]]))
    for wrong in (ids[:1], ids[:, :2]):
        with pytest.raises(ValueError, match=r"expected states \(B, L, D\) of input_ids"):
            model.pool(states, wrong)
