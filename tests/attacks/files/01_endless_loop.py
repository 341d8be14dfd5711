def act(x):
    while True:
        pass
