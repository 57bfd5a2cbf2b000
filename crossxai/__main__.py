"""``python -m crossxai``: the command line, where its script is not on the path."""

from crossxai.cli import app

app(prog_name="crossxai")
