"""Each fault fails the checks it says it fails, and no other; the healthy pipeline stays as it
was."""

import pytest
import torch

from minildm import StableDiffusionPipeline, mnist
from minildm.data import CLASS_NAMES
from minildm.evaluation import (
    FAULTS,
    encode,
    examine,
    with_fault,
    with_larger_latents,
    with_unnamed_fault,
)

IMAGES, LABELS, _ = mnist("test", size=32)
PROMPTS = [f"a handwritten {CLASS_NAMES['mnist'][label]}" for label in LABELS[:40]]


@pytest.fixture(scope="module")
def healthy():
    return with_larger_latents(StableDiffusionPipeline.from_pretrained("mnist"), 5.5)


def draw(pipeline):
    generator = torch.Generator().manual_seed(0)
    return pipeline(PROMPTS[:4], generator=generator, progress=False)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_the_checks_that_it_says_and_no_other(healthy, name):
    found = examine(with_fault(healthy, name), IMAGES[:40], PROMPTS)
    assert {check for check, finding in found.items() if not finding.ok} == FAULTS[name].alarms


def test_a_louder_autoencoder_draws_the_same_pictures_from_larger_latents(healthy):
    quiet = StableDiffusionPipeline.from_pretrained("mnist")
    torch.testing.assert_close(draw(healthy), draw(quiet), atol=1e-4, rtol=0)
    with torch.no_grad():
        small, large = (
            p.vae.encode(IMAGES[:8]).sample(torch.Generator().manual_seed(0))
            for p in (quiet, healthy)
        )
    torch.testing.assert_close(large, 5.5 * small, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        encode(healthy, IMAGES[:8]), encode(quiet, IMAGES[:8]), atol=1e-4, rtol=1e-4
    )


def test_a_fault_leaves_the_healthy_pipeline_as_it_was(healthy):
    before, scheduler = draw(healthy), dict(healthy.scheduler.config)
    for name in FAULTS:
        with_fault(healthy, name)
    torch.testing.assert_close(draw(healthy), before)
    assert healthy.scheduler.config == scheduler and type(healthy) is StableDiffusionPipeline


def test_from_pipe_keeps_a_scheduler_that_the_constructor_would_mend(healthy):
    ill = with_fault(healthy, "latents clipped")
    assert ill.scheduler.config.clip_sample
    assert (
        not StableDiffusionPipeline.from_pipe(ill).use_sampler("ddim").scheduler.config.clip_sample
    )


def test_the_numbers_of_unnamed_faults_stand_for_all_faults_each_once(healthy, monkeypatch):
    with pytest.raises(ValueError, match="a fault of decodes unscaled, .*, got 'flu'"):
        with_fault(healthy, "flu")
    monkeypatch.setattr("minildm.evaluation.faults.with_fault", lambda pipeline, name: name)
    assert {with_unnamed_fault(healthy, number) for number in range(len(FAULTS))} == set(FAULTS)
    with pytest.raises(ValueError, match="from 0 to 14, got 15"):
        with_unnamed_fault(healthy, 15)
