"""``python -m verify``: the same as ``invoke verify``, with exit codes fit for scripts."""

from __future__ import annotations

import sys

try:
    from verify.cli import main
except ModuleNotFoundError as missing:
    if str(missing.name).startswith("verify"):
        raise  # a mistake of ours
    sys.stderr.write(
        f"The library {missing.name} is missing.\n"
        "Likely cause: this is not the Python that the project was installed for.\n"
        "Type: . .venv/bin/activate  # or pip install -e . with Python 3.11 or newer\n"
    )
    raise SystemExit(3) from None

main()
