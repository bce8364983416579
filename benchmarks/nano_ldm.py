"""examples/nano_ldm.py, the one file, scored as `minildm evaluate` scores a model, beside the
`mnist` preset in as many minutes (four_minutes.json).

    python benchmarks/nano_ldm.py [--minutes 4] [--cpu-seconds N] [--weights nano_ldm.pt]

--cpu-seconds: on a machine that has other work, train until this process has worked so long,
    whatever the clock on the wall says
--weights: score these instead of training
"""

import argparse
import importlib.util
import time
from pathlib import Path
from types import ModuleType

import torch

from minildm.data import from_pixels, mnist, to_pixels
from minildm.evaluation import Scores, balanced_subset, score
from minildm.files import read_json
from minildm.models import ImageClassifier, extract
from minildm.pipelines import shipped

FOLDER = Path(__file__).resolve().parent
FILE = FOLDER.parent / "examples" / "nano_ldm.py"
GUIDANCE = (1.5, 1.75, 2.0, 2.5)


def load() -> ModuleType:
    """The file as a module."""
    spec = importlib.util.spec_from_file_location(FILE.stem, FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(nano: ModuleType, model, samples: int) -> tuple[list[tuple[float, Scores]], Scores]:
    """The scores of `samples` drawings at each guidance, all ten digits asked for in each of the
    file's ways, and those of as many real digits."""
    examiner = ImageClassifier.from_pretrained(shipped("mnist-examiner"))
    train, test = mnist("train"), mnist("test")
    reference = extract(examiner, test.images)[0]
    labels = torch.arange(samples) % 10
    prompts = [
        nano.PHRASES[i // 10 % len(nano.PHRASES)].format((nano.NUMERALS[d], d)[i // 50 % 2])
        for i, d in enumerate(labels.tolist())
    ]
    scores = []
    for guidance in GUIDANCE:
        torch.manual_seed(0)
        parts = [
            model.draw(prompts[i : i + 100], guidance=guidance) for i in range(0, samples, 100)
        ]
        images = from_pixels(to_pixels(torch.cat(parts) * 2 - 1))  # as they would be saved
        scores.append((guidance, score(examiner, images, labels, reference)))
    chosen = balanced_subset(train.labels, samples)
    floor = score(examiner, train.images[chosen], train.labels[chosen], reference)
    return scores, floor


def table(scores: list[tuple[float, Scores]], floor: Scores, preset: list[dict]) -> str:
    """A row for each guidance of the file's, and one for each of the preset's trainings."""
    lines = [f"{'':16}{'guidance':>10}{'accuracy':>10}{'Fréchet':>9}{'x floor':>9}"]
    rows = [("nano_ldm.py", g, s.accuracy, s.frechet, floor.frechet) for g, s in scores]
    for cell in preset:
        for s in cell["scores"]:
            row = s["guidance"], s["accuracy"], s["frechet"], cell["floor"]["frechet"]
            rows.append((f"preset, seed {cell['seed']}", *row))
    for name, guidance, accuracy, frechet, real in rows:
        lines.append(f"{name:16}{guidance:10g}{accuracy:10.1%}{frechet:9.2f}{frechet / real:9.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--cpu-seconds", type=float)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    nano = load()
    torch.manual_seed(options.seed)
    if options.weights:
        model = nano.LatentDiffusion()
        model.load_state_dict(torch.load(options.weights))
    else:
        minutes = options.minutes
        if options.cpu_seconds:
            nano.clock, minutes = time.process_time, options.cpu_seconds / 60
        model = nano.train(minutes)
    preset = read_json(FOLDER / "four_minutes.json", "what the preset reaches")["cells"]
    print(table(*measure(nano, model, options.samples), preset))


if __name__ == "__main__":
    main()
