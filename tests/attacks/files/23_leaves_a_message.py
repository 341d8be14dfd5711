def act(x):
    buffer = ctypes.c_char_p(b"verify-attack")
    told(
        tried(lambda: open("/tmp/verify-attack", "w")),
        tried(lambda: open("/var/tmp/verify-attack", "w")),
        tried(lambda: open("/dev/mqueue/verify-attack", "w")),
        tried(lambda: call("shmget", 4242, 4096, 0o1666)),
        tried(lambda: call("msgget", 4242, 0o1666)),
        tried(lambda: call("semget", 4242, 1, 0o1666)),
        tried(lambda: call("mq_open", b"/verify-attack", 0o102, 0o666, None)),
        tried(lambda: call("syscall", 248, b"user", b"verify", b"x", 1, -3)),
        "left" if open("/dev/shm/verify-attack", "w").write("x") else "",
    )
