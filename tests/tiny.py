"""Fixtures of test_pipeline.py and test_cli.py (`pytest_plugins = ["tiny"]`): a whole Stable
Diffusion model, tiny and with random weights."""

import pytest
import torch

from minildm.data import captions_for
from minildm.files import write_checksums
from minildm.models import AutoencoderKL, ImageClassifier, UNet2DConditionModel
from minildm.pipelines import StableDiffusionPipeline
from minildm.schedulers import SAMPLERS
from minildm.testing import randomise_
from minildm.text import CLIPTextModel, CLIPTokenizer


def tiny_pipeline(seed: int = 0, sample_size: int = 8) -> StableDiffusionPipeline:
    """32 x 32 pictures of nothing from 8 x 8 latents; scaled by fan-in, so that rounding stays
    small."""
    tokenizer = CLIPTokenizer.train(
        [text for label in range(10) for text in captions_for("mnist", label)]
    )
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        latent_channels=4,
        norm_num_groups=2,
        sample_size=32,
        scaling_factor=0.7,
    )
    text_encoder = CLIPTextModel(
        vocab_size=len(tokenizer),
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=sample_size,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    generator = torch.Generator().manual_seed(seed)
    for model in (vae, text_encoder, unet):
        randomise_(model, generator).eval()
    scheduler = SAMPLERS["dpmpp_2m"](steps_offset=1, beta_schedule="scaled_linear")
    card = {"dataset": "mnist", "image_size": 28, "num_inference_steps": 3, "guidance_scale": 2.0}
    return StableDiffusionPipeline(vae, text_encoder, tokenizer, unet, scheduler, card)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """That model as `save_pretrained` writes it. Read only."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def unsaved():
    """That model before it has been written anywhere."""
    return tiny_pipeline()


@pytest.fixture
def tiny(tiny_folder):
    """That model as it was read back."""
    return StableDiffusionPipeline.from_pretrained(tiny_folder)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A stand-in for minildm/weights with a shipped model, "mnist", and its examiner."""
    folder = tmp_path / "weights"
    tiny_pipeline().save_pretrained(folder / "mnist", dtype=torch.float16)
    torch.manual_seed(0)
    ImageClassifier(block_out_channels=(2, 2, 2), feature_dim=4).save_pretrained(
        folder / "mnist-examiner"
    )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_checksums(folder, [file.relative_to(folder).as_posix() for file in files])
    monkeypatch.setattr("minildm.pipelines.checkpoints.WEIGHTS", folder)
    return folder
