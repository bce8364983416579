"""The command line's groups: a command says with `panel=` where `minildm --help` shows it."""

import typer

from minildm.errors import OneLineErrors

TRAIN = "Train"
TEACH = "Teach a trained model something new"
DRAW = "Draw and score"

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, sample and score latent diffusion models.",
)
