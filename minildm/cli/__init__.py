"""The command line: `minildm` and its commands, a file for each group. `--help` imports no
torch."""

from minildm.cli import data, drawing, scoring, teaching, training
from minildm.cli.app import app

__all__ = ["app", "data", "drawing", "scoring", "teaching", "training"]
