"""The system's own packages, as dpkg tells them."""

from __future__ import annotations

import subprocess


def packages() -> dict[str, str]:
    """Return the versions of the packages that dpkg has installed; none where there is no dpkg."""
    form = "${db:Status-Abbrev} ${binary:Package} ${Version}\n"
    try:
        told = subprocess.run(  # noqa: S603
            ["dpkg-query", "--show", f"--showformat={form}"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    rows = [line.split() for line in told.splitlines()]
    return {row[1]: row[2] for row in sorted(rows) if row[0] == "ii"}
