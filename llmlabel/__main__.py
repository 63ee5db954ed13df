"""``python -m llmlabel``: the command line."""

from llmlabel.cli import main

if __name__ == "__main__":
    main()
