def act(x):
    return float("inf")
