def act(x):
    os.mkfifo("pipe")
    os.symlink("/etc", "link")
    os.symlink(PLACES["outside"], "away")
    os.mkdir("closed")
    open("closed/file", "w").close()
    os.chmod("closed", 0)
    deep = os.getcwd()
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(deep)
    told(
        tried(lambda: os.mknod("device", 0o20666, os.makedev(1, 1))),
        tried(lambda: os.link("/etc/passwd", "hard")),
    )
