def act(x):
    here = os.getcwd()
    os.chdir("/")
    told(
        tried(lambda: (os.rmdir(here), os.symlink(os.path.dirname(PLACES["key"]), here))),
        tried(lambda: os.rename(here, here + "-moved")),
    )
