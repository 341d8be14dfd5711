def act(x):
    told(
        *(tried(lambda: call("unshare", flag)) for flag in (0x10000000, 0x20000, 0x40000000)),
        tried(lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
        tried(lambda: call("chroot", b".")),
        tried(lambda: call("syscall", 425, 8, ctypes.create_string_buffer(120))),
        tried(lambda: call("syscall", 321, 0, 0, 0)),
        tried(lambda: call("syscall", 323, 0)),
        tried(lambda: call("syscall", 298, 0, 0, -1, -1, 0)),
        tried(lambda: call("syscall", 435, ctypes.create_string_buffer(88), 88)),
        tried(lambda: os.setuid(0)),
        tried(lambda: os.execv("/usr/bin/su", ["su", "-c", "id"]) if os.fork() == 0 else os.wait() and 1 / 0),
    )
