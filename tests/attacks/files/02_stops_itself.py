def act(x):
    os.kill(os.getpid(), signal.SIGSTOP)
    return x + 1
