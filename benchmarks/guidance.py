"""Right answers against variety as guidance grows: classifier-free, late, autoguidance and sums.

    python scripts/make_bad_guide.py --steps 250 500 1000    # into runs/bad_guides
    python benchmarks/guidance.py                            # 2,000 drawings a row, one thread
    python benchmarks/guidance.py --samples 10000            # only the rows of BEST

The shipped digits, ten steps. What the table, guidance.json, holds already is not drawn again, and
a row whose bad guide is not there is passed over. `first-round` are the weights that were shipped
before the second round of training: `runs/weights/mnist` of `make weights`, copied there.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from minildm import StableDiffusionPipeline
from minildm.data import LOADERS
from minildm.evaluation import balanced_prompts, balanced_subset, sample_as_saved, score
from minildm.files import read_json, write_json
from minildm.models import ImageClassifier, extract
from minildm.pipelines import WEIGHTS, AutoguidedPipeline, shipped

KEY = ("bad_guide", "autoguidance_scale", "guidance_scale", "guidance_start")
LATE = 0.2  # as the shipped card has it
SMALL = [f"48-96-{steps}" for steps in (250, 500, 1000)]
BEST = [("", 1.0, 2.125, LATE), (SMALL[0], 1.5, 1.0, 0.0), (SMALL[2], 2.0, 1.75, LATE)]
ROWS = [
    *BEST,
    ("", 1.0, 1.0, 0.0),
    *(("", 1.0, scale, 0.0) for scale in (1.25, 1.5, 1.75)),
    *(("", 1.0, scale, LATE) for scale in (1.5, 1.75, 2.5)),
    *((bad, scale, 1.0, 0.0) for bad in [*SMALL, "first-round"] for scale in (1.5, 2.0, 3.0)),
    *((bad, 2.5, 1.0, LATE) for bad in SMALL),
    *((bad, 1.5, 1.75, LATE) for bad in SMALL),
]


def label(row: dict) -> str:
    """A row's settings in words."""
    words = []
    if row["bad_guide"]:
        words.append(f"autoguidance {row['autoguidance_scale']:g} ({row['bad_guide']})")
    if row["guidance_scale"] > 1:
        words.append(f"guidance {row['guidance_scale']:g}")
    begun = f" from {row['guidance_start']:.0%} on" if words and row["guidance_start"] else ""
    return " + ".join(words or ["none"]) + begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=2000, help="10000: only the rows of BEST")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bad-guides", type=Path, default=WEIGHTS.parents[1] / "runs/bad_guides")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)

    pipeline = StableDiffusionPipeline.from_pretrained("mnist")
    examiner = ImageClassifier.from_pretrained(shipped("mnist-examiner"))
    train, test = LOADERS["mnist"]("train"), LOADERS["mnist"]("test")
    reference, _ = extract(examiner, test.images)
    prompts, labels = balanced_prompts("mnist", options.samples)
    steps = pipeline.card["num_inference_steps"]
    table = (
        read_json(options.out, "a table") if options.out.exists() else {"floors": {}, "rows": []}
    )

    if str(options.samples) not in table["floors"]:
        chosen = balanced_subset(train.labels, options.samples)
        floor = score(examiner, train.images[chosen], train.labels[chosen], reference)
        table["floors"][str(options.samples)] = asdict(floor)
    floor = table["floors"][str(options.samples)]["frechet"]

    for cell in BEST if options.samples >= 10_000 else ROWS:
        row = dict(zip(KEY, cell, strict=True))
        row |= {"samples": options.samples, "seed": options.seed}
        if any(row.items() <= other.items() for other in table["rows"]):
            continue
        asked = pipeline
        if row["bad_guide"]:
            folder = options.bad_guides / row["bad_guide"]
            if not folder.is_dir():
                print(f"{label(row)}: {folder} is not there")
                continue
            bad = StableDiffusionPipeline.from_pretrained(folder)
            asked = AutoguidedPipeline(pipeline, bad, row["autoguidance_scale"])
        images, seconds = sample_as_saved(
            asked,
            prompts,
            num_inference_steps=steps,
            guidance_scale=row["guidance_scale"],
            generator=torch.Generator().manual_seed(options.seed),
            progress=False,
            size=train.images.shape[-1],
            guidance_start=row["guidance_start"],
        )
        scores = asdict(score(examiner, images, labels, reference))
        row |= scores | {"seconds": round(seconds, 1)}
        table["rows"].append(row)
        write_json(options.out, table)
        print(
            f"{label(row):50} {row['accuracy']:.2%} {row['frechet'] / floor:.2f} floors, "
            f"precision {row['precision']:.3f}, recall {row['recall']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
