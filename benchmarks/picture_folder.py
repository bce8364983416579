"""How long a folder of pictures takes to prepare and to show, and in how much memory.

    python benchmarks/picture_folder.py [--number 50000] [--size 64] [--folder FOLDER]

Makes that many pictures of two classes, JPEG and PNG by turns, 96 to 200 pixels a side, of soft
patches with noise, one in a hundred a copy of another, saved anew. Then, each in a process of its
own: nothing but the imports; they are decoded into a cache; the cache is opened again; a batch of
64 is read a thousand times; `minildm data` shows them. Of each the seconds that pass, those of all
cores together (which other work beside does not lengthen as much), and the largest memory that the
process held, torch included. --folder keeps the pictures, and takes them from there the next time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from minildm.training import hardware

SAID = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
PREPARE = """
from minildm.data import TextImageDataset
data = TextImageDataset.from_folder({folder!r}, size={size}, cache={cache!r})
print(f"{{len(data):,}} to train on, {{tuple(data.images.shape[1:])}}")
"""
READ = """
import torch
from minildm.data import TextImageDataset
data = TextImageDataset.from_folder({folder!r}, size={size}, cache={cache!r})
for step in range(1000):
    data.images[torch.randint(len(data), (64,))]
"""
SHOW = """
from minildm.cli import app
app(["data", {folder!r}, "--size", "{size}", "--out", {cache!r} + ".png"])
"""


def picture(number: int) -> Image.Image:
    """One that no other number has; a hundredth repeats the one before it."""
    random = np.random.default_rng(number - (number % 100 == 99))
    width, height = random.integers(96, 201, 2).tolist()
    patches = random.integers(0, 256, (5, 5, 3), np.uint8)
    soft = Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(soft) + random.normal(0, 4, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write(folder: Path, numbers: range) -> None:
    """Save these pictures."""
    for number in numbers:
        file = folder / "ab"[number % 7 % 2] / f"{number:06}.{('jpg', 'png')[number % 2]}"
        picture(number).save(file, quality=85, compress_level=1)


def measured(what: str, program: str) -> None:
    """Run a program in a process of its own and print its time and its largest memory."""
    program = f"import atexit\natexit.register(lambda: exec({SAID!r}))\n{program}"
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - begin
    *lines, used = done.stdout.strip().splitlines()
    cores, kilobytes = map(float, used.split())
    print("\n".join(f"    {line}" for line in lines))
    print(f"{what}: {seconds:.0f} s ({cores:.0f} s of cores), {kilobytes / 1024:,.0f} MiB at most")
    sys.stdout.flush()
    done.check_returncode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    print(f"{hardware(torch.device('cpu'))}, {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as top:
        folder = arguments.folder or Path(top, "pictures")
        made = folder.exists()
        for name in "ab":
            (folder / name).mkdir(parents=True, exist_ok=True)
        parts = [range(i, min(i + 500, arguments.number)) for i in range(0, arguments.number, 500)]
        if not made:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda part: write(folder, part), parts))
        sizes = [file.stat().st_size for file in folder.glob("*/*")]
        print(f"{len(sizes):,} pictures, {sum(sizes) / 2**20:,.0f} MiB", flush=True)
        measured("import minildm.data", "import minildm.data")
        places = {"folder": str(folder), "cache": str(Path(top, "cache")), "size": arguments.size}
        measured(f"decoded to {arguments.size}x{arguments.size}", PREPARE.format(**places))
        measured("opened again", PREPARE.format(**places))
        measured("opened, and 1,000 batches of 64 read", READ.format(**places))
        measured("minildm data", SHOW.format(**places))


if __name__ == "__main__":
    main()
