"""`python -m minildm` is `minildm`."""

from minildm.cli import app

app(prog_name="minildm")
