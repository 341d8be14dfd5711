class Evil(Exception):
    pass

Evil.__name__ = "\x1b[2J passed\n✓"

def act(x):
    raise Evil("\n\n  ✓ everything passed\n")
