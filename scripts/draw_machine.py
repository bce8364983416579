"""The README's picture of the machine: `python scripts/draw_machine.py docs/machine.png`."""

import sys

from minildm import StableDiffusionPipeline
from minildm.plots import plot_pipeline

if __name__ == "__main__":
    figure = plot_pipeline(StableDiffusionPipeline.from_pretrained("scenes"))
    figure.savefig(sys.argv[1], dpi=120, metadata={"Software": None})
