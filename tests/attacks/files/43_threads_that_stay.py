import threading

def shout():
    while True:
        with contextlib.suppress(OSError):
            os.write(3, b"\0\0\0\1T")

def act(x):
    threading.Thread(target=shout, daemon=True).start()
    time.sleep(0.2)
    return x

def other():
    return 8
