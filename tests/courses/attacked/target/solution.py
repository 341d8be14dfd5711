"""The reference."""


def act(x):
    return x + 1


def other():
    return 7
