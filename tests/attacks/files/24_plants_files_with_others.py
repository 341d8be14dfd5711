def act(x):
    told(
        tried(lambda: os.listdir("/tmp")),
        tried(lambda: os.listdir("..")),
        tried(lambda: open("../verify-1-0000/planted", "w")),
        tried(lambda: open(PLACES["other job"] + "/planted", "w")),
        tried(lambda: os.listdir(PLACES["other job"])),
    )
