def act(x):
    return float("nan")
