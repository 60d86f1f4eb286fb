"""`python -m foveal` is the command line."""

from foveal.cli import main

if __name__ == "__main__":
    main()
