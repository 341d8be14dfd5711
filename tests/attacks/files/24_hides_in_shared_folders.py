def act(x):
    told(
        *(tried(lambda: os.mkdir(f"{place}/verify-attack")) for place in ("/dev/shm", "/tmp", "/var/tmp")),
        tried(lambda: os.symlink("/etc", "/dev/shm/verify-attack-link")),
        tried(lambda: os.mkfifo("/dev/shm/verify-attack-pipe")),
    )
