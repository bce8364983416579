"""Configurations and checkpoints: what is recorded, what is refused and with which words."""

import copy
import errno
import importlib
import inspect
import json
import os
import pickle
import pkgutil
import time

import diffusers
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import minildm
from minildm.configuration import (
    Config,
    ConfigMixin,
    ModelMixin,
    register_to_config,
)
from minildm.models import UNet2DConditionModel, UNet2DModel
from minildm.state_dicts import rename_legacy
from minildm.text import CLIPTextModel


class Scheduler(ConfigMixin):
    config_name = "scheduler_config.json"
    unsupported = {
        "timestep_type": ("discrete", "linear"),
        "thresholding_ratio": 0.995,
        "note": ...,
    }

    @register_to_config
    def __init__(
        self, steps: int = 10, betas: tuple[float, ...] = (0.1, 0.2), name: str | None = None
    ):
        self.steps = steps


class Child(Scheduler):
    @register_to_config
    def __init__(self, steps: int = 20, extra: int = 1):
        super().__init__(steps=steps, name="parent")


class Net(ModelMixin, nn.Module):
    @register_to_config
    def __init__(self, width: int = 3):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)


def message(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, f"{part!r} not in: {text}"


def test_every_argument_is_recorded_with_its_default():
    assert Scheduler(5, name="x").config == {"steps": 5, "betas": (0.1, 0.2), "name": "x"}
    assert Scheduler(betas=[1, [2, 3]]).config.betas == (1, (2, 3))


def test_a_subclass_records_its_own_arguments_not_its_parents():
    child = Child(extra=7)
    assert child.config == {"steps": 20, "extra": 7} and child.steps == 20


def test_the_configuration_is_there_before_the_constructors_first_line():
    class Prepared(ModelMixin, nn.Module):
        @register_to_config
        def __init__(self, width: int = 3):
            seen.append(self.config.width)

    seen = []
    Prepared(4)
    assert seen == [4]


def every_subclass(cls):
    return {cls}.union(*map(every_subclass, cls.__subclasses__()))


def test_every_constructor_of_the_package_says_that_its_arguments_are_the_configuration():
    for module in pkgutil.walk_packages(minildm.__path__, "minildm."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    classes = [c for c in every_subclass(ConfigMixin) if c.__module__.startswith("minildm.")]
    own = {c.__name__: vars(c)["__init__"] for c in classes if "__init__" in vars(c)}
    assert {"DDIMScheduler", "UNet2DModel", "CLIPTextModel"} <= set(own)
    recorded = {
        name for name, init in own.items() if "register_to_config" in init.__code__.co_qualname
    }
    assert recorded == set(own)


def test_wrong_arguments_are_refused_as_by_any_function():
    with pytest.raises(TypeError, match="colour"):
        Scheduler(colour="red")


def test_config_is_read_only_and_names_its_keys():
    config = Scheduler().config
    for change in (
        lambda: config.__setitem__("steps", 1),
        lambda: setattr(config, "steps", 1),
        lambda: config.update(steps=1),
        lambda: config.pop("steps"),
    ):
        with pytest.raises(TypeError, match="read-only"):
            change()
    with pytest.raises(AttributeError, match="no key 'colour'; it has: steps, betas, name"):
        _ = config.colour


def test_config_survives_copy_and_pickle():
    config = Config({"a": 1, "b": (2, 3)}, defaults=["b"])
    for other in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config and isinstance(other, Config) and other.defaults == {"b"}
    assert copy.deepcopy(Net(4)).config.width == 4


def test_from_config_takes_another_objects_config_and_overrides():
    assert Scheduler.from_config(Scheduler(3).config, name="n").config == {
        "steps": 3,
        "betas": (0.1, 0.2),
        "name": "n",
    }


def test_a_default_that_nobody_gave_is_not_handed_on():
    class Other(ConfigMixin):
        @register_to_config
        def __init__(self, steps: int = 99, betas: tuple[float, ...] = (0.3,), name: str = "other"):
            pass

    assert Scheduler(5).config.defaults == {"betas", "name"}
    made = Other.from_config(Scheduler(5).config)
    assert made.config == {"steps": 5, "betas": (0.3,), "name": "other"}
    assert made.config.defaults == {"betas", "name"}
    assert Other.from_config(Scheduler(betas=(0.1, 0.2)).config).config.betas == (0.1, 0.2)
    changed = {**Scheduler(name="x").config, "steps": 3}  # a copy is what somebody wrote
    assert Other.from_config(changed).config.steps == 3
    given = {"steps": 7, "name": "x", "_use_default_values": ["name"]}  # as diffusers marks them
    assert Other.from_config(given).config == {"steps": 7, "betas": (0.3,), "name": "other"}


def test_numbers_and_arrays_of_numpy_and_torch_are_recorded_as_jsons(tmp_path):
    for betas in (np.array([0.5, 0.25]), torch.tensor([0.5, 0.25]), [np.float32(0.5), 0.25]):
        made = Scheduler(np.int64(7), betas=betas)
        assert made.config == {"steps": 7, "betas": (0.5, 0.25), "name": None}
        made.save_pretrained(tmp_path)
        assert Scheduler.from_pretrained(tmp_path).config == made.config
        assert Scheduler.from_config({"betas": betas}).config.betas == (0.5, 0.25)


def test_the_constructor_takes_the_keys_that_from_config_takes():
    made = Scheduler(3, thresholding_ratio=0.995, timestep_type="linear", note=[1])
    assert made.config.timestep_type == "linear" and made.config.note == (1,)
    for make in (lambda **keys: Scheduler.from_config(keys), Scheduler):
        with pytest.raises(ValueError) as error:
            make(thresholding_ratio=0.5)
        message(error, "Scheduler supports only thresholding_ratio = 0.995, got 0.5")
    for value in (None, False, 0, "red"):  # from_config would not mind the first two, in a file
        with pytest.raises(TypeError, match="colour"):
            Scheduler(colour=value)


def namesakes():
    """Our classes beside those of the same name in diffusers or transformers."""
    for module in pkgutil.walk_packages(minildm.__path__, "minildm."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for ours in sorted(every_subclass(ConfigMixin), key=lambda each: each.__name__):
        theirs = getattr(diffusers, ours.__name__, None)
        if (
            theirs is not None
            and "__init__" in vars(ours)
            and ours.__module__.startswith("minildm.")
        ):
            yield ours, theirs


def test_every_constructor_takes_every_default_of_diffusers():
    compared = 0
    for ours, theirs in namesakes():
        parameters = [*inspect.signature(theirs.__init__).parameters.values()][1:]
        defaults = {
            each.name: each.default for each in parameters if each.kind is not each.VAR_KEYWORD
        }
        with torch.device("meta" if issubclass(ours, nn.Module) else "cpu"):
            made, bare = ours(**defaults), ours()
        for key, value in bare.config.items():
            assert made.config[key] == value, (ours, key)
        assert ours.from_config(defaults).config.keys() >= bare.config.keys()
        compared += len(defaults)
    assert compared > 250


def test_positional_arguments_of_every_constructor_mean_what_they_mean_in_diffusers():
    for ours, theirs in namesakes():
        parameters = inspect.signature(ours.__init__).parameters.values()
        positional = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
        expected = [*inspect.signature(theirs.__init__).parameters][: len(positional)]
        assert positional == expected, ours


def test_no_key_is_both_an_argument_and_not_supported():
    for ours, _ in namesakes():
        assert not {*inspect.signature(ours.__init__).parameters} & {*ours.unsupported}, ours


def test_from_config_passes_over_harmless_keys():
    harmless = {
        "_class_name": "Other",
        "_x": 1,
        "absent": None,
        "off": False,
        "timestep_type": "linear",
        "note": [4],
    }
    assert (
        Scheduler.from_config(harmless | {"thresholding_ratio": 0.995}).config == Scheduler().config
    )


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("timestep_type", "fractal", "'discrete' or 'linear'"),
        ("thresholding_ratio", 0.5, "0.995"),
        ("brand_new", 3, ""),
    ],
)
def test_an_unsupported_key_is_named_with_its_value(key, value, expected):
    with pytest.raises(ValueError) as error:
        Scheduler.from_config({key: value})
    message(error, "Scheduler", key, repr(value), expected)


def test_config_round_trip(tmp_path):
    Scheduler(4, betas=(1, 2)).save_pretrained(tmp_path / "new" / "folder")
    assert (
        Scheduler.from_pretrained(tmp_path / "new" / "folder").config
        == Scheduler(4, betas=(1, 2)).config
    )
    content = json.loads((tmp_path / "new" / "folder" / "scheduler_config.json").read_text())
    assert content["_class_name"] == "Scheduler" and "_diffusers_version" in content


def test_a_missing_folder_and_a_missing_file_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        Scheduler.from_pretrained(tmp_path / "nowhere")
    message(error, "nowhere: no such folder", "a Scheduler")
    with pytest.raises(FileNotFoundError) as error:
        Scheduler.from_pretrained(tmp_path)
    message(error, "scheduler_config.json: no such file")


@pytest.mark.parametrize(
    "text, got",
    [
        ("{", "of a Scheduler as JSON, got"),
        ("[1]", "JSON object, got list"),
        ("\x00", "of a Scheduler as JSON, got"),
        ("[" * 100_000, "of a Scheduler as JSON, got"),
    ],
)
def test_a_broken_configuration_is_named(tmp_path, text, got):
    (tmp_path / "scheduler_config.json").write_text(text)
    with pytest.raises(ValueError) as error:
        Scheduler.from_pretrained(tmp_path)
    message(error, "scheduler_config.json", got)


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("steps", "many", "steps to be a whole number from 0 to 1000000, got 'many'"),
        ("steps", -3, "steps to be a whole number from 0 to 1000000, got -3"),
        ("steps", 2.5, "got 2.5"),
        ("steps", True, "got True"),
        ("steps", None, "got None"),
        ("betas", 0.1, "betas to be a list, each entry a number, got 0.1"),
        ("betas", [0.1, "x"], "got [0.1, 'x']"),
        ("betas", [float("nan")], "got [nan]"),
        ("name", 7, "name to be a text or null, got 7"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_file(tmp_path, key, value, expected):
    (tmp_path / "scheduler_config.json").write_text(json.dumps({key: value}))
    with pytest.raises(ValueError) as error:
        Scheduler.from_pretrained(tmp_path)
    message(error, "scheduler_config.json: Scheduler: expected", expected)


def test_numbers_that_make_no_network_are_a_value_error_of_the_file(tmp_path):
    class Divided(ModelMixin, nn.Module):
        @register_to_config
        def __init__(self, groups: int = 2, size: tuple[int, int] = (4, 4)):
            super().__init__()
            self.width = 4 // groups

    (tmp_path / "config.json").write_text('{"groups": 0}')
    with pytest.raises(ValueError) as error:
        Divided.from_folder(tmp_path)
    message(error, "config.json: expected numbers that make a Divided", "zero")
    (tmp_path / "config.json").write_text('{"size": [4, 4, 4]}')
    with pytest.raises(ValueError) as error:
        Divided.from_folder(tmp_path)
    message(
        error,
        "expected size to be two entries, each a whole number from 0 to 1000000, got [4, 4, 4]",
    )


def test_a_whole_number_does_for_a_fraction():
    assert Scheduler.from_config({"betas": [1, 2.5]}).config.betas == (1, 2.5)


def test_what_could_not_be_written_is_named_and_leaves_the_old_file(tmp_path, monkeypatch):
    Scheduler(4).save_pretrained(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError) as error:
        Scheduler(5).save_pretrained(tmp_path)
    message(error, "scheduler_config.json: could not be written", "No space left")
    assert Scheduler.from_pretrained(tmp_path).steps == 4 and len(list(tmp_path.iterdir())) == 1


def test_another_classs_folder_is_refused(tmp_path):
    (tmp_path / "scheduler_config.json").write_text('{"_class_name": "DDPM"}')
    with pytest.raises(ValueError) as error:
        Scheduler.from_pretrained(tmp_path)
    message(error, "scheduler_config.json: expected a Scheduler", "'DDPM'")


def test_weights_round_trip_bit_for_bit(tmp_path):
    net = Net(5)
    net.save_pretrained(tmp_path)
    again = Net.from_pretrained(tmp_path)
    assert again.config.width == 5 and not again.training
    torch.testing.assert_close(again.state_dict(), net.state_dict(), rtol=0, atol=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        Net.weights_name,
    ]  # nothing half-written
    with safe_open(tmp_path / Net.weights_name, "pt") as file:
        assert file.metadata() == {
            "format": "pt"
        }  # older transformers refuse a file that does not say so


def test_weights_are_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "new").touch()
    Net(5).save_pretrained(tmp_path)
    mode = (tmp_path / Net.weights_name).stat().st_mode
    assert mode == (tmp_path / "new").stat().st_mode


def test_channels_last_weights_are_saved_as_they_mean(tmp_path):
    class Conv(ModelMixin, nn.Module):
        @register_to_config
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

    net = Conv().to(memory_format=torch.channels_last)
    net.save_pretrained(tmp_path)
    torch.testing.assert_close(
        Conv.from_pretrained(tmp_path).conv.weight, net.conv.weight, rtol=0, atol=0
    )


def test_half_precision_files_open_as_float32_unless_asked(tmp_path):
    net = Net()
    net.save_pretrained(tmp_path, dtype=torch.float16)
    assert (
        net.dtype == torch.float32
        and load_file(tmp_path / Net.weights_name)["linear.weight"].dtype == torch.float16
    )
    again = Net.from_pretrained(tmp_path)
    assert again.dtype == torch.float32
    torch.testing.assert_close(
        again.linear.weight, net.linear.weight.half().float(), rtol=0, atol=0
    )
    assert Net.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_missing_weights_say_which_file_and_a_pickle_is_not_read(tmp_path):
    Net().save_pretrained(tmp_path)
    (tmp_path / Net.weights_name).unlink()
    torch.save(Net().state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError) as error:
        Net.from_pretrained(tmp_path)
    message(error, Net.weights_name, "no such file", "safetensors")


@pytest.mark.parametrize("keep", [0, 5, 60, 150])
def test_truncated_weights_are_named(tmp_path, keep):
    Net().save_pretrained(tmp_path)
    file = tmp_path / Net.weights_name
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError) as error:
        Net.from_pretrained(tmp_path)
    message(error, Net.weights_name, "expected a whole safetensors file")


def test_foreign_weights_are_counted_and_the_first_named(tmp_path):
    Net().save_pretrained(tmp_path)
    save_file(
        {"linear.weight": torch.zeros(3, 3), "head.bias": torch.zeros(1)},
        tmp_path / Net.weights_name,
    )
    with pytest.raises(ValueError) as error:
        Net.from_pretrained(tmp_path)
    message(
        error,
        "3 missing keys (first: linear.bias)",
        "1 unexpected keys (first: head.bias)",
        "Net in config.json",
    )


def test_weights_of_another_size_are_named(tmp_path):
    Net(3).save_pretrained(tmp_path)
    save_file(Net(4).state_dict(), tmp_path / Net.weights_name)
    with pytest.raises(ValueError) as error:
        Net.from_pretrained(tmp_path)
    message(error, Net.weights_name, "linear.weight of shape (4, 4) instead of (3, 3)")


def test_legacy_names_become_todays():
    old = {
        "text_model.encoder.layers.0.self_attn.q_proj.weight": 1,
        "text_model.embeddings.position_ids": 2,
        "encoder.mid_block.attentions.0.query.weight": 3,
        "decoder.mid_block.attentions.0.proj_attn.bias": 4,
        "down_blocks.0.attentions.1.key.bias": 5,
        "down_blocks.0.attentions.1.value.bias": 6,
        "conv_in.weight": 7,
    }
    assert rename_legacy(old) == {
        "encoder.layers.0.self_attn.q_proj.weight": 1,
        "encoder.mid_block.attentions.0.to_q.weight": 3,
        "decoder.mid_block.attentions.0.to_out.0.bias": 4,
        "down_blocks.0.attentions.1.to_k.bias": 5,
        "down_blocks.0.attentions.1.to_v.bias": 6,
        "conv_in.weight": 7,
    }


def test_a_full_disk_leaves_a_models_folder_as_it_was(tmp_path, monkeypatch):
    """Else old weights lie beside a new configuration, and draw something else."""
    Net(width=3).save_pretrained(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*told, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="could not be written .No space left on device"):
        Net(width=4).save_pretrained(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def with_tensor(folder, name, tensor):
    """The file of a saved Net, with one of its tensors replaced."""
    Net().save_pretrained(folder)
    file = folder / Net.weights_name
    save_file({**load_file(file), name: tensor}, file)
    return file


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64], ids=str
)
def test_weights_that_are_no_fractions_are_named_with_their_kind(tmp_path, dtype):
    file = with_tensor(tmp_path, "norm.weight", torch.ones(3).to(dtype))
    with pytest.raises(ValueError) as error:
        Net.from_pretrained(tmp_path)
    message(error, str(file), f"norm.weight of {dtype} instead of torch.float32")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fractions_of_every_precision_open(tmp_path, dtype):
    with_tensor(tmp_path, "norm.weight", torch.full((3,), 0.5, dtype=dtype))
    assert Net.from_pretrained(tmp_path).norm.weight.tolist() == [0.5] * 3


class Counting(ModelMixin, nn.Module):
    @register_to_config
    def __init__(self, width: int = 3):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)  # counts its batches in whole numbers


def test_whole_numbers_stay_whole(tmp_path):
    Counting().save_pretrained(tmp_path)
    file = tmp_path / Counting.weights_name
    assert Counting.from_pretrained(tmp_path).norm.num_batches_tracked.dtype == torch.int64
    save_file({**load_file(file), "norm.num_batches_tracked": torch.tensor(0.5)}, file)
    with pytest.raises(ValueError) as error:
        Counting.from_pretrained(tmp_path)
    message(error, "norm.num_batches_tracked of torch.float32 instead of torch.int64")


@pytest.mark.parametrize(
    ("value", "kind"), [("nan", "NaN"), ("inf", "infinity"), ("-inf", "infinity")]
)
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_that_are_not_finite_are_named_with_file_and_tensor(tmp_path, value, kind, stored):
    tensor = torch.eye(3, dtype=stored)
    tensor[2, 1] = float(value)
    file = with_tensor(tmp_path, "linear.weight", tensor)
    with pytest.raises(ValueError) as error:
        Net.from_pretrained(tmp_path)
    message(error, f"{file}: expected finite weights, got {kind} in linear.weight")


def test_weights_that_the_asked_precision_cannot_hold_are_named(tmp_path):
    with_tensor(tmp_path, "norm.bias", torch.full((3,), 70_000.0))
    assert Net.from_pretrained(tmp_path).norm.bias.tolist() == [70_000.0] * 3
    with pytest.raises(ValueError) as error:
        Net.from_pretrained(tmp_path, dtype=torch.float16)
    message(error, "got infinity in norm.bias (torch.float16)")
    with_tensor(tmp_path, "norm.bias", torch.full((3,), 3e38))  # finite, though their sum is not
    assert Net.from_pretrained(tmp_path).norm.bias.isfinite().all()


class Deep(ModelMixin, nn.Module):
    @register_to_config
    def __init__(self, depth: int = 2, width: int = 3):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))


@pytest.mark.parametrize(
    "asked", [{"depth": 10**6}, {"width": 5 * 10**4}, {"width": 10**6}], ids=str
)
def test_a_network_much_larger_than_its_weights_is_refused_before_it_is_made(tmp_path, asked):
    Deep().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(asked))
    start = time.perf_counter()
    with pytest.raises(ValueError) as error:
        Deep.from_pretrained(tmp_path)
    assert time.perf_counter() - start < 5
    message(error, f"{tmp_path / 'config.json'}: expected ")
    if asked != {"width": 10**6}:  # that no allocator gives
        message(error, "a network for the weights beside it, 4 tensors of 24 numbers, got one more")
    assert len(Deep(1000).layers) == 1000  # elsewhere nothing is counted any more


@pytest.mark.parametrize("depth", [1, 3, 40])
def test_a_network_a_little_larger_than_its_weights_is_described(tmp_path, depth):
    Deep().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"depth": depth}))
    with pytest.raises(ValueError) as error:
        Deep.from_pretrained(tmp_path)
    keys = 2 * abs(depth - 2)
    message(error, f"{keys} {'missing' if depth > 2 else 'unexpected'} keys")


@pytest.mark.parametrize("value", [10**30, 10**6 + 1, 1e9])
def test_whole_numbers_have_a_largest(value):
    for key in ("depth", "width"):
        with pytest.raises(ValueError) as error:
            Deep.from_config({key: value})
        message(error, f"expected {key} to be a whole number from 0 to 1000000, got {value!r}")


@pytest.mark.parametrize("value", [10**400, 1e39, -1e39, float("inf")])
def test_fractions_are_those_of_float32(value):
    with pytest.raises(ValueError, match="expected betas to be a list, each entry a number, got"):
        Scheduler.from_config({"betas": [value]})


@pytest.mark.parametrize("value", [0, -1e-5])
def test_an_epsilon_is_above_zero(value):
    for made in (CLIPTextModel, UNet2DConditionModel, UNet2DModel):
        key = next(key for key in made.arguments() if key.endswith("eps"))
        with pytest.raises(ValueError, match=f"expected {key} to be a number above 0, got {value}"):
            made.from_config({key: value})


def test_a_constructor_that_keeps_no_arguments_is_named_when_it_would_be_written(tmp_path):
    class Plain(ModelMixin, nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

    class Wider(Net):
        def __init__(self, times: int = 2):
            super().__init__(width=3 * times)

    expected = "expected @register_to_config above {}.__init__, got none"
    for made in (Plain(), Wider()):
        name = type(made).__name__
        for act in (made.save_pretrained, made.save_config):
            with pytest.raises(ValueError, match=expected.format(name)):
                act(tmp_path / name)
        with pytest.raises(ValueError, match=expected.format(name)):
            type(made).from_config({})
        assert not (tmp_path / name).exists() and made.linear.weight.shape[0] in (2, 6)


def test_one_dtype_under_two_names_is_one_and_two_are_refused(tmp_path):
    Net().save_pretrained(tmp_path)
    half, brain = torch.float16, torch.bfloat16
    for options in ({"dtype": half}, {"torch_dtype": half}, {"dtype": half, "torch_dtype": half}):
        assert Net.from_pretrained(tmp_path, **options).dtype == half
    with pytest.raises(ValueError) as error:
        Net.from_pretrained(tmp_path, dtype=half, torch_dtype=brain)
    message(error, "expected dtype, or torch_dtype, its older name, got torch.float16 and torch.")
    for wrong in ("float16", "", 0, torch.int64):
        with pytest.raises(ValueError, match="expected a floating-point dtype"):
            Net.from_pretrained(tmp_path, dtype=wrong)
