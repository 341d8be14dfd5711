def act(x):
    key = PLACES["key"]
    told(
        tried(lambda: open(key, "w")),
        tried(lambda: os.replace(key, "mine")),
        tried(lambda: os.unlink(key)),
        tried(lambda: os.chmod(key, 0o666)),
        tried(lambda: os.truncate(key, 0)),
    )
