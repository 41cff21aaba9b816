"""The command line."""

from control.cli.main import main

__all__ = ["main"]
