sys.addaudithook(lambda *_: (_ for _ in ()).throw(RuntimeError("no")))

def act(x):
    return x + 1
