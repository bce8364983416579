"""Low-rank adaptation beside diffusers' and peft's, and what merging and unmerging promise."""

import copy
import json
import re
import tempfile

import diffusers
import pytest
import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from pretend import pretended_device
from safetensors import safe_open
from safetensors.torch import save_file
from torch.testing import assert_close

from minildm.testing import randomise_
from minildm.variations import LoRA, LoRALayer
from minildm.variations.lora import WEIGHTS_NAME

pytest_plugins = ["tiny"]

PROMPTS = ["a handwritten seven", "the digit 3"]


def trained(pipeline, with_text=True, **options):
    """Terms that add something, as they would after training."""
    lora = LoRA(pipeline.unet, pipeline.text_encoder if with_text else None, **options)
    return randomise_(lora, torch.Generator().manual_seed(7))


def draw(pipeline, latents):
    return pipeline(PROMPTS, latents=latents, progress=False)


@pytest.fixture
def latents(tiny):
    return tiny.starting_noise(2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("with_text", [False, True], ids=["unet", "unet and text encoder"])
@pytest.mark.parametrize(("rank", "alpha"), [(2, None), (3, 6.0)], ids=["scale 1", "scale 2"])
def test_diffusers_draws_the_same_with_our_file(
    tiny, tiny_folder, latents, tmp_path, with_text, rank, alpha
):
    plain = draw(tiny, latents)
    trained(tiny, with_text, rank=rank, alpha=alpha).save_pretrained(tmp_path)
    got = draw(tiny, latents)
    assert (got - plain).abs().max() > 0.05
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    theirs.set_progress_bar_config(disable=True)
    theirs.load_lora_weights(
        tmp_path, weight_name=WEIGHTS_NAME
    )  # which older ones want to be told when offline
    options = {
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
        "latents": latents,
        "output_type": "pt",
    }
    assert_close(
        got / 2 + 0.5, theirs(PROMPTS, height=32, width=32, **options).images, rtol=0, atol=1e-4
    )


def test_a_file_that_diffusers_and_peft_wrote_opens_here(tiny, tiny_folder, tmp_path):
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder).unet
    theirs.add_adapter(
        LoraConfig(r=2, lora_alpha=3, target_modules=["to_q", "to_v"], init_lora_weights=False)
    )
    terms = convert_state_dict_to_diffusers(get_peft_model_state_dict(theirs))
    settings = {"unet": theirs.peft_config["default"].to_dict()}
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path, terms, unet_lora_adapter_metadata=settings["unet"]
    )
    with safe_open(tmp_path / WEIGHTS_NAME, "pt") as stored:
        assert all(
            ".lora.down." in key or ".lora.up." in key for key in stored.keys()
        )  # as its training scripts do
    lora = LoRA.from_pretrained(tmp_path, tiny.unet)
    assert lora.alpha / lora.rank == 1.5
    generator = torch.Generator().manual_seed(0)
    inputs = (
        torch.randn(2, 4, 8, 8, generator=generator),
        torch.tensor(5),
        torch.randn(2, 16, 12, generator=generator),
    )
    assert_close(tiny.unet(*inputs), theirs(*inputs).sample, rtol=1e-5, atol=1e-5)


def older(key):
    """A key of ours as diffusers 0.17 to 0.20 had it, and as releases before them."""
    text = key.replace("text_encoder.", "text_encoder.text_model.")
    for new, old in ((".lora_A.", "{}.down."), (".lora_B.", "{}.up.")):
        text = text.replace(new, old)
    if key.startswith("unet."):
        oldest = re.sub(r"\.(to_\w+)(\.0)?\{\}", r".processor.\1_lora", text)
        return text.format(".lora"), oldest
    oldest = re.sub(r"\.([qkv]|out)_proj\{\}", r".to_\1_lora", text)
    return text.format(".lora_linear_layer"), oldest


@pytest.mark.parametrize("age", [0, 1])
def test_a_file_with_diffusers_older_names_adds_what_it_adds_there(
    tiny, tiny_folder, latents, tmp_path, age
):
    lora = trained(tiny)
    expected = draw(tiny, latents)
    tensors = {older(key)[age]: tensor for key, tensor in lora.tensors().items()}
    save_file(tensors, tmp_path / WEIGHTS_NAME, {"format": "pt"})
    lora.remove()
    LoRA.from_pretrained(tmp_path, tiny.unet, tiny.text_encoder)
    assert torch.equal(draw(tiny, latents), expected)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    theirs.set_progress_bar_config(disable=True)
    # Beside transformers 5, diffusers 0.36 finds no layer by the text encoder's older prefix.
    shorter = {key.replace(".text_model", ""): tensor for key, tensor in tensors.items()}
    save_file(shorter, tmp_path / WEIGHTS_NAME, {"format": "pt"})
    theirs.load_lora_weights(tmp_path, weight_name=WEIGHTS_NAME)
    options = {"num_inference_steps": 3, "guidance_scale": 2.0, "latents": latents}
    drawn = theirs(PROMPTS, output_type="pt", **options).images
    assert_close(expected / 2 + 0.5, drawn, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_terms_follow_their_networks_into_another_precision(tiny, tiny_folder, latents, dtype):
    lora = trained(tiny)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    with tempfile.TemporaryDirectory() as folder:
        lora.save_pretrained(folder)
        theirs.load_lora_weights(folder, weight_name=WEIGHTS_NAME)
    inputs = (latents.to(dtype), 5, tiny.encode_prompt(PROMPTS)[1].detach().to(dtype))
    words = tiny.tokenizer(PROMPTS)
    tiny.unet.to(dtype), tiny.text_encoder.to(dtype)
    lora.set_strength(0)
    plain = [tiny.unet(*inputs), tiny.text_encoder(words)]
    lora.set_strength(1)
    got = [tiny.unet(*inputs), tiny.text_encoder(words)]
    expected = [
        theirs.unet.to(dtype)(*inputs).sample,
        theirs.text_encoder.to(dtype)(words).last_hidden_state,
    ]
    for ours, other, without in zip(got, expected, plain, strict=True):
        assert ours.dtype == dtype
        assert (ours - other).norm() < 0.1 * (ours - without).norm()
    lora.merge()
    lora.unmerge()
    assert torch.equal(tiny.text_encoder(words), got[1])


def test_the_terms_follow_their_networks_to_another_device(tiny, latents):
    context = tiny.encode_prompt(PROMPTS)[1].detach()
    trained(tiny)
    expected = tiny.unet(latents, 5, context).detach()
    with pretended_device() as device:
        tiny.unet.to(device)
        got = tiny.unet(latents.to(device), 5, context.to(device))
        assert_close(got.detach().cpu(), expected)


def test_removed_while_merged_they_leave_the_networks_as_they_were(tiny, latents):
    plain, before = draw(tiny, latents), copy.deepcopy(tiny.unet.state_dict())
    lora = trained(tiny)
    kept = {key: tensor.clone() for key, tensor in lora.tensors().items()}
    lora.merge()
    assert not torch.equal(draw(tiny, latents), plain)
    lora.remove()
    assert torch.equal(draw(tiny, latents), plain)
    assert all(torch.equal(value, before[key]) for key, value in tiny.unet.state_dict().items())
    assert not any(module._forward_hooks for module in tiny.unet.modules())
    assert all(torch.equal(tensor, kept[key]) for key, tensor in lora.tensors().items())


def test_merged_and_moved_it_is_unmerged_to_what_was_moved(tiny):
    expected = copy.deepcopy(tiny.unet).half().state_dict()
    lora = trained(tiny, with_text=False)
    lora.merge()
    tiny.unet.half()
    lora.unmerge()
    assert all(torch.equal(value, expected[key]) for key, value in tiny.unet.state_dict().items())


def test_saved_and_loaded_it_adds_the_same(tiny, latents, tmp_path):
    lora = trained(tiny, alpha=3.0)
    before = draw(tiny, latents)
    lora.save_pretrained(tmp_path)
    lora.remove()
    assert not torch.equal(draw(tiny, latents), before)
    again = LoRA.from_pretrained(tmp_path / WEIGHTS_NAME, tiny.unet, tiny.text_encoder)
    assert (again.rank, again.alpha) == (4, 3.0)
    assert torch.equal(draw(tiny, latents), before)


def test_at_first_it_adds_exactly_nothing_but_b_has_a_gradient(tiny, latents):
    plain = draw(tiny, latents)
    lora = LoRA(tiny.unet, tiny.text_encoder)
    assert torch.equal(draw(tiny, latents), plain)
    context = tiny.text_encoder(tiny.tokenizer("a seven"))
    tiny.unet(latents[:1], 5, context).square().mean().backward()
    assert all(term.lora_B.weight.grad.abs().max() > 0 for term in lora.terms)
    assert not any(
        parameter.requires_grad
        for parameter in [*tiny.unet.parameters(), *tiny.text_encoder.parameters()]
    )


def test_the_network_keeps_its_keys_and_bits(tiny):
    before = copy.deepcopy(tiny.unet.state_dict())
    trained(tiny)
    after = tiny.unet.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_merged_computes_the_same_and_unmerging_gives_back_every_bit(tiny):
    tiny.unet.double()
    before = copy.deepcopy(tiny.unet.state_dict())
    lora = trained(tiny, with_text=False, alpha=6.0)
    lora.set_strength(0.7)
    generator = torch.Generator().manual_seed(0)
    inputs = (
        torch.randn(2, 4, 8, 8, generator=generator).double(),
        5,
        torch.randn(2, 16, 12, generator=generator).double(),
    )
    beside = tiny.unet(*inputs)
    lora.merge()
    assert_close(tiny.unet(*inputs), beside, rtol=1e-9, atol=1e-9)
    assert not torch.equal(tiny.unet.state_dict()[changed(before)], before[changed(before)])
    lora.unmerge()
    assert all(torch.equal(value, before[key]) for key, value in tiny.unet.state_dict().items())
    assert torch.equal(tiny.unet(*inputs), beside)
    lora.remove()
    assert not torch.equal(tiny.unet(*inputs), beside)


def changed(state):
    return next(key for key in state if key.endswith("to_q.weight"))


def test_of_two_the_last_merged_is_unmerged_first(tiny):
    before = copy.deepcopy(tiny.unet.state_dict())
    one, two = trained(tiny, with_text=False), trained(tiny, with_text=False)
    one.merge()
    two.merge()
    with pytest.raises(ValueError, match="the last merged is unmerged first"):
        one.unmerge()
    two.unmerge()
    one.unmerge()
    assert all(torch.equal(value, before[key]) for key, value in tiny.unet.state_dict().items())


def test_the_strength_is_proportional(tiny):
    layer = torch.nn.Linear(3, 2)
    term = randomise_(LoRALayer(layer, 2))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert_close(term(x), x @ term.delta().T)
    lora = trained(tiny, rank=2, alpha=4.0)
    whole = [term.delta() for term in lora.terms]
    lora.set_strength(0.5)
    assert all(
        torch.equal(2 * term.delta(), one) for term, one in zip(lora.terms, whole, strict=True)
    )
    lora.merge()
    with pytest.raises(ValueError, match="unmerge"):
        lora.set_strength(1)
    with pytest.raises(ValueError, match="unmerge"):
        lora.merge()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "a rank of 1 or more, got 0"),
        ({"targets": []}, "names of some layers as targets, got none"),
        ({"targets": ["to_k", "to_kk"]}, "linear layers called 'to_kk' in the unet, got none"),
        ({"targets": ["conv1"]}, "linear layers called 'conv1' in the unet, got .'down"),
    ],
)
def test_what_cannot_be_adapted_is_refused(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        LoRA(tiny.unet, **options)


def rewrite(folder, change, **settings):
    """The file, changed."""
    file = folder / WEIGHTS_NAME
    with safe_open(file, "pt") as stored:
        metadata, tensors = (
            stored.metadata(),
            {key: stored.get_tensor(key) for key in stored.keys()},
        )
    told = json.loads(metadata["lora_adapter_metadata"]) | settings
    save_file(change(tensors), file, metadata | {"lora_adapter_metadata": json.dumps(told)})


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda t: dict(list(t.items())[1:]), {}, "1 missing keys"),
        (
            lambda t: {key: tensor[..., :1].contiguous() for key, tensor in t.items()},
            {},
            "of shape",
        ),
        (
            lambda t: {key.replace("lora_A", "lora_down"): x for key, x in t.items()},
            {},
            "keys like unet",
        ),
        (
            lambda t: {key.replace("mid_block", "middle"): x for key, x in t.items()},
            {},
            "linear layers called",
        ),
        (lambda t: {}, {}, "keys like unet"),
        (lambda t: t | {"a\nb": torch.ones(1)}, {}, r"keys like unet.*, got .a\\nb.$"),
        (
            lambda t: {key: x for key, x in t.items() if "lora_B" in key},
            {},
            "lora_A and lora_B of each layer, got lora_B alone",
        ),
        (
            lambda t: {key: x.int() for key, x in t.items()},
            {},
            "matrix of fractions|finite numbers",
        ),
        (lambda t: {key: x / 0 for key, x in t.items()}, {}, "matrix of fractions|finite numbers"),
        (
            lambda t: {key: x.sum() for key, x in t.items()},
            {},
            "matrix of fractions|finite numbers",
        ),
        (lambda t: t, {"unet.lora_alpha": "big"}, "one alpha, a number, got .'big'"),
        (lambda t: t, {"unet.lora_alpha": [2]}, "one alpha"),
        (
            lambda t: {key: x for key, x in t.items() if key.startswith("unet")},
            {"unet.lora_alpha": float("nan")},
            "one alpha, a number, got .nan",
        ),
        (lambda t: t, {"unet.use_rslora": True}, "plain LoRA, got unet.use_rslora = True"),
        (lambda t: t, {"text_encoder.lora_alpha": 5.0}, "one alpha"),
    ],
)
def test_a_file_of_something_else_is_refused_by_name_and_leaves_nothing_behind(
    tiny, tmp_path, change, settings, message
):
    trained(tiny).remove()
    trained(tiny).save_pretrained(tmp_path)
    rewrite(tmp_path, change, **settings)
    hooks = sum(len(module._forward_hooks) for module in tiny.unet.modules())
    with pytest.raises(ValueError, match=f"{WEIGHTS_NAME}: .*{message}"):
        LoRA.from_pretrained(tmp_path, tiny.unet, tiny.text_encoder)
    assert sum(len(module._forward_hooks) for module in tiny.unet.modules()) == hooks


def test_a_broken_or_missing_file_is_refused_by_name(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; expected LoRA weights"):
        LoRA.from_pretrained(tmp_path, tiny.unet)
    trained(tiny).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected a text encoder too"):
        LoRA.from_pretrained(tmp_path, tiny.unet)
    (tmp_path / WEIGHTS_NAME).write_bytes((tmp_path / WEIGHTS_NAME).read_bytes()[:500])
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        LoRA.from_pretrained(tmp_path, tiny.unet)
