"""The known mistakes."""

from verify.authoring import misconception


@misconception("act")
def unchanged(x):
    """Add one."""
    return x
