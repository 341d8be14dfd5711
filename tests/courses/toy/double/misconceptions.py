"""The known mistakes."""

from verify.authoring import misconception


@misconception("double")
def squared(x):
    """Twice is `2 * x`, not `x ** 2`."""
    return x**2


@misconception("double")
def double_not_written(x):
    """Start with `return`."""
    raise NotImplementedError
