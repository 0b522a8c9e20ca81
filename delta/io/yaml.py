"""Reading YAML as DVC reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError

from delta.io.errors import UserError


def load_yaml(file: Path, constructor: type[SafeConstructor] = SafeConstructor) -> Any:
    """The content of a YAML 1.2 file, in which a key that is given twice is an error.

    Args:
        constructor: makes Python objects of the values; a subclass may refuse some, by raising any exception.

    Raises:
        UserError: the file cannot be read.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = constructor
    try:
        return yaml.load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}: run this in the project's folder") from None
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem).partition(" with value")[0]
        raise UserError(f"{file}{line}: not readable as YAML: {problem}") from None
    except Exception as error:  # nearly every kind of error for a value that is not what its tag says
        raise UserError(f"{file}: not readable as YAML: {error}") from None
