"""The program: `python run.py --help`."""

if __name__ == "__main__":  # worker processes import this file too
    from harness.cli import run

    run()
