"""minildm.training.state: an average in closed form, a file that is whole or says so, a record that
names what differs."""

import pytest
import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import nn

from minildm.training import EMA, STATE_FILE, hardware, save_state
from minildm.training.state import load_state, load_weights, state_tensors


def toy():
    torch.manual_seed(0)
    loss = nn.Linear(3, 2)
    return loss, torch.optim.AdamW(loss.parameters())


def test_ema_is_the_weighted_sum_it_says():
    weight = nn.Parameter(torch.tensor([0.0]))
    ema = EMA([weight], horizon=4)
    expected = 0.0
    for step, value in enumerate([1.0, 5.0, -2.0, 3.0, 3.0, 3.0, 7.0]):
        weight.data.fill_(value)
        ema.update(step)
        decay = min(0.75, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    ema.copy_to([weight])
    assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_a_truncated_state_says_so(tmp_path):
    loss, optimizer = toy()
    file = tmp_path / STATE_FILE
    save_state(file, "toy", loss, optimizer, None, [1.0], 0.5, 9)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match=f"{STATE_FILE}: .* whole .*; delete it"):
        load_state(file, "toy", loss, optimizer, None, 9)


def test_a_full_disk_leaves_the_state_before_it_whole(tmp_path, monkeypatch):
    loss, optimizer = toy()
    save_state(tmp_path / STATE_FILE, "toy", loss, optimizer, None, [1.0], 0.5, 9)
    before = (tmp_path / STATE_FILE).read_bytes()

    def full(tensors, file, metadata):
        file.write_bytes(b"half of i")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="could not be written.*No space left.*is whole"):
        save_state(tmp_path / STATE_FILE, "toy", loss, optimizer, None, [1.0, 2.0], 1.0, 9)
    assert (tmp_path / STATE_FILE).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [STATE_FILE]


def test_the_average_is_that_of_diffusers_beside_its_first_step_which_copies():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    ours = EMA(layer.parameters(), horizon=100)
    theirs = EMAModel(layer.parameters(), decay=0.99)
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += torch.randn_like(parameter)
        theirs.optimization_step = step
        theirs.step(layer.parameters())
        assert theirs.get_decay(step + 1) == pytest.approx(ours.get_decay(step), rel=1e-12)
        ours.update(step)
        for a, b in zip(ours.shadow_params, theirs.shadow_params, strict=True):
            torch.testing.assert_close(a, b)


def test_a_state_comes_back_whole_before_and_after_the_first_step(tmp_path):
    for steps in (0, 3):
        loss, optimizer = toy()
        ema = EMA(loss.parameters(), horizon=10)
        for step in range(steps):
            loss(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            ema.update(step)
        save_state(tmp_path / STATE_FILE, "toy", loss, optimizer, ema, [2.0] * steps, 7.5, 9)
        other, its_optimizer = toy()
        its_ema = EMA(other.parameters(), horizon=10)
        with torch.no_grad():
            for parameter in (*other.parameters(), *its_ema.shadow_params):
                parameter.fill_(9)
        losses, seconds = load_state(tmp_path / STATE_FILE, "toy", other, its_optimizer, its_ema, 9)
        assert (losses, seconds) == ([2.0] * steps, 7.5)
        for a, b in zip(loss.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
            for key, value in optimizer.state[a].items():
                assert torch.equal(value, its_optimizer.state[b][key])
        for a, b in zip(ema.shadow_params, its_ema.shadow_params, strict=True):
            assert torch.equal(a, b)


def test_the_state_of_another_network_is_refused_and_of_another_stage_passed_over(tmp_path):
    file = tmp_path / STATE_FILE
    save_state(file, "toy", *toy(), None, [1.0], 0.5, 9)
    assert load_state(file, "other", *toy(), None, 9) == ([], 0.0)
    with pytest.raises(ValueError, match="expected the training state of this recipe's toy"):
        load_state(file, "toy", *toy(), EMA([torch.zeros(1)], 10), 9)


def autoencoder(channels):
    """With its optimizer and its average, after one step."""
    torch.manual_seed(0)
    vae = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, channels, 3))
    optimizer = torch.optim.AdamW(vae.parameters())
    vae(torch.randn(2, channels, 8, 8)).square().mean().backward()
    optimizer.step()
    return vae, optimizer, EMA(vae.parameters(), 10)


def test_the_state_of_one_channel_does_not_fill_a_network_of_three(tmp_path):
    file = tmp_path / STATE_FILE
    save_state(file, "autoencoder", *autoencoder(1), [1.0], 0.5, 9)
    other = autoencoder(3)
    before = {name: tensor.clone() for name, tensor in state_tensors(*other).items()}
    expected = (
        "expected the training state of this recipe's autoencoder, got "
        r"loss.0.weight of shape \(4, 1, 3, 3\) instead of \(4, 3, 3, 3\); delete it"
    )
    with pytest.raises(ValueError, match=expected):
        load_state(file, "autoencoder", *other, 9)
    for name, tensor in state_tensors(*other).items():
        assert torch.equal(tensor, before[name]), name


def test_a_state_of_other_steps_is_not_gone_on_with(tmp_path):
    """Its learning rate would fall elsewhere."""
    save_state(tmp_path / STATE_FILE, "toy", *toy(), None, [1.0], 0.5, 9)
    with pytest.raises(ValueError, match="expected the training state of 7 steps of toy, got .* 9"):
        load_state(tmp_path / STATE_FILE, "toy", *toy(), None, 7)


def test_every_tensor_of_a_state_has_its_shape(tmp_path):
    """Each in turn in a shape that would be spread over the one it should have."""
    file = tmp_path / STATE_FILE
    vae = autoencoder(1)
    save_state(file, "autoencoder", *vae, [1.0], 0.5, 9)
    whole, metadata = load_file(file), {"stage": "autoencoder"}
    names = state_tensors(*vae).keys()
    assert {name.split(".")[0] for name in names} == {"loss", "optimizer", "ema"}
    for name in names:
        tensor = whole[name]
        narrow = tensor[None] if tensor.ndim == 0 else tensor.flatten()[:1].clone()
        if narrow.shape == tensor.shape:
            continue
        save_file(whole | {name: narrow}, file, metadata)
        with pytest.raises(ValueError, match=f"got {name} of shape .* instead of"):
            load_state(file, "autoencoder", *vae, 9)


SPOILT = [
    ("loss.0.weight", lambda x: x.fill_(float("nan")), "NaN in loss.0.weight"),
    ("optimizer.0.exp_avg", lambda x: x.fill_(float("inf")), "infinity in optimizer.0.exp_avg"),
    ("optimizer.0.exp_avg_sq", lambda x: x.fill_(-1), "optimizer.0.exp_avg_sq of -1 after 1 steps"),
    ("optimizer.0.step", lambda x: x.fill_(2), "optimizer.0.step of 2 after 1 steps"),
    ("optimizer.0.step", lambda x: x.fill_(-1), "optimizer.0.step of -1 after 1 steps"),
    ("ema.0", lambda x: x.half(), "ema.0 of torch.float16 instead of torch.float32"),
    ("loss.0.weight", lambda x: x.int(), "loss.0.weight of torch.int32 instead of"),
    ("losses", lambda x: x.fill_(float("nan")), "NaN in losses"),
    ("losses", lambda x: x[0], r"losses of shape \(\) instead of \(1,\)"),
    ("losses", lambda x: x.repeat(12), "12 losses of 9 steps"),
    ("losses", lambda x: x.int(), "losses of torch.int32"),
    ("losses", None, "1 missing keys"),
    ("seconds", lambda x: x.fill_(-1), "seconds of -1"),
    ("seconds", lambda x: x[None], "seconds of shape"),
]


@pytest.mark.parametrize("name, change, fault", SPOILT)
def test_what_no_training_leaves_is_no_state(tmp_path, name, change, fault):
    """Nothing is filled from it; before, it trained on to a loss of NaN, or was rounded."""
    file = tmp_path / STATE_FILE
    vae = autoencoder(1)
    save_state(file, "autoencoder", *vae, [1.0], 0.5, 9)
    before = {key: tensor.clone() for key, tensor in state_tensors(*vae).items()}
    stored = load_file(file)
    tensor = stored.pop(name)
    if change is not None:
        stored[name] = change(tensor).contiguous().clone()
    save_file(stored, file, {"stage": "autoencoder", "steps": "9"})
    with pytest.raises(ValueError, match=f"{STATE_FILE}: .*got {fault}.*; delete it to start"):
        load_state(file, "autoencoder", *vae, 9)
    for key, tensor in state_tensors(*vae).items():
        assert torch.equal(tensor, before[key]), key


def test_an_average_goes_only_to_parameters_of_its_shapes():
    ema = EMA([torch.ones(2, 1), torch.ones(3)], 10)
    for wrong in ([torch.zeros(2, 4), torch.zeros(3)], [torch.zeros(2, 1)]):
        with pytest.raises(ValueError, match="expected the parameters that were averaged, got"):
            ema.copy_to(wrong)
        assert all((tensor == 0).all() for tensor in wrong)


def test_a_finished_stage_fills_only_the_network_it_was_of(tmp_path):
    file = tmp_path / "autoencoder.safetensors"
    vae, other = autoencoder(1)[0], autoencoder(3)[0]
    save_file(vae.state_dict(), file)
    load_weights(file, vae)
    with pytest.raises(ValueError, match=r"got 0.weight of shape \(4, 1, 3, 3\)"):
        load_weights(file, other)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        load_weights(file, vae)


def test_the_weights_of_a_stage_that_are_gone_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="vae.safetensors: no such file; expected the weig"):
        load_weights(tmp_path / "vae.safetensors", toy()[0])


def test_the_hardware_has_a_name():
    assert hardware(torch.device("cpu"))
