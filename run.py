"""The program: `python run.py --help`."""

from harness.cli import run

run()
