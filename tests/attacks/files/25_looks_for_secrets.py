def act(x):
    memory = open("/proc/self/environ").read() + repr(os.environ)
    found = [word for word in ("sesame", "SECRET", "HF_TOKEN", "JUPYTER") if word in memory]
    files = sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1]
    told("REACHED" if found else "no secret", "REACHED" if files != [0, 1, 2, 3] else "four files")
