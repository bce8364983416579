"""One training step of the U-Net, ours beside diffusers': same configuration, same weights, same
batch, in turn.

    python benchmarks/training_step.py [--rounds 10] [--batch 128] [--threads 2]

Diffusers is timed twice: as its constructor gives it, and in the channels-last memory format that
    our training uses.
"""

import argparse
import statistics
import time

import torch
from diffusers import UNet2DConditionModel as Diffusers
from torch.utils.flop_counter import FlopCounterMode

from minildm import UNet2DConditionModel as Ours

CONFIG = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 64,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}


def matmul_speed() -> float:
    """Floating-point operations a second in a large matrix product: what this machine can do at
    best."""
    a = torch.randn(2048, 2048)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="timed steps of each (default 10)")
    parser.add_argument("--batch", type=int, default=128, help="batch size (default 128)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    last = torch.channels_last
    theirs, theirs_last = Diffusers(**CONFIG), Diffusers(**CONFIG)
    ours = Ours(**CONFIG)
    for model in (theirs_last, ours):
        model.load_state_dict(theirs.state_dict())
        model.to(memory_format=last)

    sample = torch.randn(options.batch, 4, 8, 8)
    timestep = torch.randint(1000, (options.batch,))
    context = torch.randn(options.batch, 16, 64)
    with FlopCounterMode(display=False) as counter:
        ours(sample, timestep, context).sum().backward()
    operations = counter.get_total_flops()

    def step(model, sample):
        start = time.perf_counter()
        model.zero_grad()
        output = model(sample, timestep, context)
        output = output if torch.is_tensor(output) else output.sample
        output.square().mean().backward()
        return time.perf_counter() - start, output

    peers = {
        "diffusers": (theirs, sample),
        "diffusers, channels last": (theirs_last, sample.contiguous(memory_format=last)),
        "minildm": (ours, sample.contiguous(memory_format=last)),
    }
    outputs = [
        step(*peer)[1] for peer in peers.values()
    ]  # a warm-up, and proof that it is the same network
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-4, atol=1e-4)

    times = {name: [] for name in peers}
    for _ in range(options.rounds):  # in turn, so that a slow moment of the machine meets all alike
        for name, peer in peers.items():
            times[name].append(step(*peer)[0])

    speed = matmul_speed()
    print(
        f"{operations / 1e9:.1f} GFLOP a step of {options.batch}, {options.threads} threads, ",
        end="",
    )
    print(f"matmul {speed / 1e9:.0f} GFLOP/s, torch {torch.__version__}")
    print(f"{'':26}{'ms/step':>9}{'GFLOP/s':>9}{'of matmul':>11}{'minildm is':>16}")
    for name, t in times.items():
        median = statistics.median(t)
        ratio = statistics.median(a / b for a, b in zip(t, times["minildm"], strict=True))
        rate = operations / median
        print(f"{name:26}{1e3 * median:9.0f}{rate / 1e9:9.0f}{rate / speed:11.0%}{ratio:14.2f} ×")


if __name__ == "__main__":
    main()
