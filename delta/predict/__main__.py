"""The entry point of `python -m delta.predict`."""

from delta.predict.command import main

if __name__ == "__main__":
    main()
