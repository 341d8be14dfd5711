def act(x):
    while True:
        sys.stdout.write("passed " * 1000)
