"""``python -m verify``: the same as ``invoke verify``, with exit codes fit for scripts."""

from verify.cli import main

main()
