"""A word that is learnt, beside what diffusers and transformers make of it."""

import copy

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.testing import assert_close

from minildm.pipelines import StableDiffusionPipeline
from minildm.schedulers import DDPMScheduler
from minildm.text import CLIPTokenizer
from minildm.variations import TextualInversionLoss, load_word, save_word, with_word, word_vector
from minildm.variations.textual_inversion import WEIGHTS_NAME

pytest_plugins = ["tiny"]

WORD = "<bent>"
PROMPTS = ["a <bent> seven", "the digit 3 <bent>", "handwritten<bent>seven", "a seven"]


@pytest.fixture
def vector():
    return torch.randn(12, generator=torch.Generator().manual_seed(0))


def drawn(pipeline, prompts=PROMPTS):
    latents = pipeline.starting_noise(len(prompts), generator=torch.Generator().manual_seed(0))
    return pipeline(
        prompts, latents=latents, num_inference_steps=3, guidance_scale=2.0, progress=False
    )


def theirs_drawn(pipeline, latents):
    pipeline.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
        "latents": latents,
        "output_type": "pt",
    }
    return pipeline(PROMPTS, height=32, width=32, **options).images * 2 - 1


def test_diffusers_draws_the_same_with_our_file(tiny, tiny_folder, tmp_path, vector):
    save_word(tmp_path, WORD, vector)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    theirs.load_textual_inversion(tmp_path)
    learnt = with_word(tiny, *load_word(tmp_path))
    latents = tiny.starting_noise(len(PROMPTS), generator=torch.Generator().manual_seed(0))
    assert_close(drawn(learnt), theirs_drawn(theirs, latents), rtol=0, atol=2e-4)
    assert_close(theirs.text_encoder.get_input_embeddings().weight[-1], vector)


def test_a_model_that_has_learnt_a_word_survives_a_folder_and_diffusers_opens_it(
    tiny, tmp_path, vector
):
    learnt = with_word(tiny, WORD, vector)
    expected = drawn(learnt)
    learnt.save_pretrained(tmp_path)
    assert torch.equal(drawn(StableDiffusionPipeline.from_pretrained(tmp_path)), expected)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    latents = tiny.starting_noise(len(PROMPTS), generator=torch.Generator().manual_seed(0))
    assert_close(theirs_drawn(theirs, latents), expected, rtol=0, atol=2e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    assert torch.equal(
        drawn(StableDiffusionPipeline.from_pretrained(tmp_path / "theirs")), expected
    )


def test_the_word_is_one_token_wherever_it_stands_as_in_transformers(tiny, tmp_path, vector):
    ours = with_word(with_word(tiny, "<bent>", vector), "<bent>er", vector).tokenizer
    ours.save_pretrained(tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    for text in [
        *PROMPTS,
        "",
        "<bent>",
        "<bent><bent>",
        "<bent>er seven",
        "<ben t>",
        "bent",
        "<|endoftext|><bent>",
        "<Bent>",
    ]:
        assert ours.encode(text) == again.encode(text) == theirs(text)["input_ids"], text
    assert ours.decode(ours.encode("a <bent> seven")) == theirs.decode(
        ours.encode("a <bent> seven"), skip_special_tokens=True
    )
    assert ours.unknown_words("a <bent> seven") == []
    assert ours.vocab["<bent>"] == len(tiny.tokenizer)


def test_prompts_without_the_word_are_drawn_as_before_to_the_last_bit(tiny, vector):
    before = drawn(tiny, PROMPTS[3:])
    learnt = with_word(tiny, WORD, vector)
    assert torch.equal(drawn(learnt, PROMPTS[3:]), before)
    assert torch.equal(drawn(tiny, PROMPTS[3:]), before) and WORD not in tiny.tokenizer.vocab
    assert learnt.unet is tiny.unet and learnt.vae is tiny.vae


def test_a_word_with_the_vector_of_another_means_the_same(tiny):
    learnt = with_word(tiny, WORD, word_vector(tiny, "seven"))
    pair = drawn(learnt, ["the digit seven"]), drawn(learnt, [f"the digit {WORD}"])
    assert torch.equal(*pair)


def batch(pipeline, prompts):
    generator = torch.Generator().manual_seed(1)
    z, noise = torch.randn(2, len(prompts), 4, 8, 8, generator=generator)
    return z, noise, torch.arange(len(prompts)) * 100, pipeline.tokenizer(prompts)


def test_training_moves_nothing_but_the_vector(tiny, vector):
    learnt = with_word(tiny, WORD, vector)
    before = {
        name: copy.deepcopy(getattr(learnt, name).state_dict())
        for name in ("unet", "vae", "text_encoder")
    }
    loss = TextualInversionLoss(learnt, WORD, DDPMScheduler(prediction_type="v_prediction"))
    assert [name for name, parameter in loss.named_parameters() if parameter.requires_grad] == [
        "vector"
    ]
    optimizer = torch.optim.SGD([loss.vector], 1.0)
    losses = []
    for _ in range(5):
        losses.append(loss(*batch(learnt, PROMPTS)))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    kept = loss.keep()
    assert not torch.equal(kept, vector)
    assert_close(
        loss(*batch(learnt, PROMPTS)),
        TextualInversionLoss(learnt, WORD, loss.scheduler)(*batch(learnt, PROMPTS)),
    )
    for name, state in before.items():
        for key, value in getattr(learnt, name).state_dict().items():
            if key == "embeddings.token_embedding.weight":
                assert torch.equal(value[:-1], state[key][:-1]) and torch.equal(value[-1], kept)
            else:
                assert torch.equal(value, state[key]), key


def test_the_gradient_is_that_of_the_tables_row(tiny, vector):
    learnt = with_word(tiny, WORD, vector)
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    loss = TextualInversionLoss(learnt, WORD, scheduler)
    loss(*batch(learnt, PROMPTS)).backward()
    loss.handle.remove()
    table = learnt.text_encoder.embeddings.token_embedding.weight.requires_grad_()
    super(TextualInversionLoss, loss).forward(*batch(learnt, PROMPTS)).backward()
    assert_close(loss.vector.grad, table.grad[-1])


@pytest.mark.parametrize("word", ["seven", "<Bent>", "two words", ""])
def test_a_word_that_is_none_or_is_known_is_refused(tiny, vector, word):
    with pytest.raises(ValueError, match="expected (a new word|added tokens)"):
        with_word(tiny, word, vector)


def test_a_vector_of_another_width_and_a_word_of_several_tokens_are_refused(tiny, vector):
    with pytest.raises(ValueError, match=r"expected a vector of shape \(12,\), got \(11,\)"):
        with_word(tiny, WORD, vector[:11])
    with pytest.raises(ValueError, match="expected a word of one token, got 'zebra', of 5"):
        word_vector(tiny, "zebra")


def test_a_file_of_something_else_is_refused_by_name(tmp_path, vector):
    with pytest.raises(FileNotFoundError, match="expected a learnt word"):
        load_word(tmp_path)
    for content in (
        {"a": vector, "b": vector.clone()},
        {"a": torch.zeros(2, 12)},
        {"a": torch.zeros(())},
    ):
        save_file(content, tmp_path / WEIGHTS_NAME)
        with pytest.raises(ValueError, match=f"{WEIGHTS_NAME}: expected one word with one vector"):
            load_word(tmp_path)
    for wrong, got in ((vector / 0, "(NaN|infinity) in a"), (vector.long(), "torch.int64")):
        save_file({"a": wrong}, tmp_path / WEIGHTS_NAME)
        message = f"{WEIGHTS_NAME}: expected a vector of finite fractions, got {got}"
        with pytest.raises(ValueError, match=message):
            load_word(tmp_path)
    (tmp_path / WEIGHTS_NAME).write_bytes(b"no")
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        load_word(tmp_path / WEIGHTS_NAME)
    save_file({"<one>": vector[None]}, tmp_path / WEIGHTS_NAME)  # diffusers' training writes (1, D)
    assert torch.equal(load_word(tmp_path)[1], vector)
