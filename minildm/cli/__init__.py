"""The command line: `minildm` and its commands. `--help` imports no torch."""

from minildm.cli.commands import app

__all__ = ["app"]
