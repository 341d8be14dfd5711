def act(x):
    def grow():
        with open("huge", "wb") as file:
            os.ftruncate(file.fileno(), 1 << 40)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    told(tried(grow))
