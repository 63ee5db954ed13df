"""The command line: `main` is the console script ``llmlabel``."""

from llmlabel.cli.app import main

__all__ = ["main"]
