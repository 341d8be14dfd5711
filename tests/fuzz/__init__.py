"""What may come over a wall, made up by hypothesis: the same properties as tests and for hours.

``pytest tests/fuzz`` tries a few examples, the same ones each time. ``python -m tests.fuzz`` tries
new ones for as long as it is told to.
"""
