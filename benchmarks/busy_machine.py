"""How torch's threads wait for each other, on idle cores and on cores that have other work too.

    python benchmarks/busy_machine.py [--busy 0 2] [--spins 300000 10000] [--jobs draw-50 train-30]

GNU's OpenMP, which brings torch's threads on Linux, lets a thread that is done spin for a while
before it sleeps: 300,000 times, if nothing is said. On idle cores that saves the waking up; where
other programs want the cores, it burns the time that the thread it waits for would need.
GOMP_SPINCOUNT says how long; it is read once, when torch is loaded.

Each setting is a process of its own, in which torch was imported with it: one thread, and as many
as there are cores with each of `--spins`, the first of them as they come. A job goes round all
settings in turn, first on idle cores (so run it where nothing else runs), then beside `--busy`
processes a core, which this starts, so that the kernel shares the cores out among all of them
alike. A fair share is what each of T threads beside B processes has when all get the same of the
processor time that they used together: two threads beside four processes on two cores, a third of
a core. `of fair`: so many times longer the job took than on idle cores, beside how many times
longer that share makes it. `sample-400` is the whole command, its start included. Linux only.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
AS_THEY_COME = 300_000  # GNU's own number
JOBS = ("draw-1", "draw-50", "train-30", "sample-400")
ENOUGH = 5.0  # seconds after which a job is not repeated
SAMPLE = ["-m", "minildm.cli", "sample", "a handwritten seven"]


def work() -> None:
    """A setting's process: reads the name of a job, does it, writes its seconds and those of the
    processor."""
    import torch

    from minildm import DPMSolverMultistepScheduler, StableDiffusionPipeline
    from minildm.data import digit_captions
    from minildm.training import PRESETS, DenoisingLoss, TextConditionedUNet, Trainer, new_denoiser

    pipeline = StableDiffusionPipeline.from_pretrained("mnist")
    recipe, captions = PRESETS["mnist"], [digit_captions(i % 10)[0] for i in range(64)]
    tokenizer, text_encoder, unet = new_denoiser(recipe, captions, latent_channels=8, seed=0)
    loss = DenoisingLoss(
        TextConditionedUNet(unet, text_encoder), DPMSolverMultistepScheduler(**recipe.scheduler)
    )
    x0, noise = torch.randn(2, 64, 8, 4, 4)
    batch = x0, noise, torch.randint(1000, (64,)), tokenizer(captions)
    trainer = Trainer("train", loss, lambda step: batch, recipe.denoiser.learning_rate, ema=0.05)

    for line in sys.stdin:
        kind, number = line.strip().split("-")
        start, used = time.perf_counter(), time.process_time()
        if kind == "draw":
            prompts = [captions[i % 10] for i in range(int(number))]
            pipeline(prompts, generator=torch.Generator().manual_seed(0), progress=False)
        else:
            trainer.train(int(number), progress=False)
        print(time.perf_counter() - start, time.process_time() - used, flush=True)


class Setting:
    """So many threads, which spin so long, in a process that waits for jobs."""

    def __init__(self, threads: int, spins: int):
        self.threads = threads
        self.name = "one thread" if threads == 1 else f"{threads} threads, {spins:,}"
        self.environment = {**os.environ, "OMP_NUM_THREADS": f"{threads}"}
        self.environment |= {"GOMP_SPINCOUNT": f"{spins}"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work"],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, job: str) -> tuple[float, float]:
        """Seconds that the job takes, and of the processor; `sample-400` is a whole command, its
        start included."""
        if job.startswith("sample"):
            with tempfile.TemporaryDirectory() as folder:
                options = ["--num", job.split("-")[1], "--out", os.path.join(folder, "grid.png")]
                command = [sys.executable, *SAMPLE, *options]
                start, used = time.perf_counter(), os.times()
                subprocess.run(command, env=self.environment, check=True, capture_output=True)
                ended, after = time.perf_counter(), os.times()
            return ended - start, sum(after[2:4]) - sum(used[2:4])
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{job}\n")
        self.process.stdin.flush()
        seconds, used = self.process.stdout.readline().split()
        return float(seconds), float(used)


def used_by(processes: list[subprocess.Popen]) -> float:
    """Seconds of the processor that they have had so far."""
    files = (Path(f"/proc/{process.pid}/schedstat") for process in processes)
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def measure(
    settings: list[Setting], job: str, rounds: int, beside: list[subprocess.Popen]
) -> list[tuple[float, float]]:
    """Of each setting the median seconds that the job took, and that each thread could have had."""
    times: list[list[float]] = [[] for _ in settings]
    shares: list[list[float]] = [[] for _ in settings]
    for _ in range(rounds):
        for i, setting in enumerate(settings):
            if sum(times[i]) < ENOUGH:
                before = used_by(beside)
                seconds, used = setting.do(job)
                together = used_by(beside) - before + used
                times[i].append(seconds)
                shares[i].append(together / (len(beside) + setting.threads))
    medians = map(statistics.median, times), map(statistics.median, shares)
    return list(zip(*medians, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="processes a core")
    parser.add_argument("--spins", type=int, nargs="+", default=[AS_THEY_COME, 10_000])
    parser.add_argument("--jobs", nargs="+", default=list(JOBS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.work:
        return work()

    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{CORES} cores; load before it begins (1, 5, 15 minutes): {load}", flush=True)
    pairs = [(1, options.spins[0]), *((CORES, spins) for spins in options.spins)]
    settings = [Setting(*pair) for pair in pairs]
    for setting in settings:  # the first call of each is slower
        setting.do("draw-1")
        setting.do("train-1")
    idle: dict[str, float] = {}
    print(f"{'':40}{'seconds':>9}{'of the first':>14}{'of one thread':>15}{'of fair':>9}")
    for each in options.busy:
        command = [sys.executable, "-c", "while True: pass"]
        beside = [subprocess.Popen(command) for _ in range(each * CORES)]
        try:
            print(f"beside {len(beside)} busy processes, started here" if each else "alone")
            for job in options.jobs:
                measured = measure(settings, job, options.rounds, beside)
                if not each:  # the same for all settings of as many threads
                    idle |= {f"{job} 1": measured[0][0], f"{job} {CORES}": measured[1][0]}
                for setting, (seconds, share) in zip(settings, measured, strict=True):
                    alone = idle.get(f"{job} {setting.threads}")
                    fair = f"{share / alone:7.2f} ×" if each and alone else ""
                    print(
                        f"{job:14}{setting.name:26}{seconds:9.3f}{seconds / measured[1][0]:12.2f} ×"
                        f"{seconds / measured[0][0]:13.2f} ×{fair}",
                        flush=True,
                    )
        finally:
            for process in beside:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
