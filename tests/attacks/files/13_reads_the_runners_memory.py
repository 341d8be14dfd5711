def act(x):
    parts = ("mem", "environ", "maps", "fd", "root", "cmdline")
    told(*{
        tried(lambda: os.listdir(f"/proc/{pid}/{part}") if part in ("fd", "root")
              else open(f"/proc/{pid}/{part}", "rb").read(1))
        for pid in strangers() for part in parts
    })
