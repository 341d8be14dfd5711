def act(x):
    told(*{tried(lambda: os.kill(pid, signal.SIGKILL)) for pid in strangers()})
