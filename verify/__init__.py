"""The verification jobs: the sealed runner, its client, and what a lab is written with.

The package knows no skill by name: a folder under ``labs/`` is its registration.
"""
