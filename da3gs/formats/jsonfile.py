"""JSON files of other people: read with every way to be broken told in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from da3gs.errors import InputError

_LARGEST = 64 << 20


def load_json(path: Path) -> Any:
    """The value in a JSON file, UTF-8 with or without BOM.

    Raises:
        InputError: it cannot be read, is larger than 64 MB, or is not JSON.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path.name} is larger than 64 MB; that is no file of cameras")
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror}); check the file") from error
    except RecursionError as error:
        raise InputError(f"{path.name} is not usable JSON: it is nested too deeply; write it again") from error
    except InputError:
        raise
    except json.JSONDecodeError as error:
        where = f"{error.msg}, line {error.lineno} column {error.colno}"
        raise InputError(f"{path.name} is not valid JSON ({where}); write it again") from error
    except ValueError as error:
        raise InputError(f"{path.name} is not valid JSON (no UTF-8, or an endless number); write it again") from error
