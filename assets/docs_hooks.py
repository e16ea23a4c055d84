"""mkdocs hook: ``{{ help COMMAND }}`` in a page becomes what ``da3gs COMMAND --help`` prints when it is built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with every help text in place."""
    return re.sub(r"^\{\{ help (\w+) \}\}$", lambda found: _help(found[1]), markdown, flags=re.M)


def _help(command: str) -> str:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    words = [sys.executable, "-m", "da3gs", command, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return f"```text\n{done.stdout.rstrip()}\n```"
