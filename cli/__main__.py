"""`python -m cli` is `posting-engine`."""

from cli.main import main

if __name__ == "__main__":
    main()
