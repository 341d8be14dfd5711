import random

def act(x):
    for seed in (*range(2000), int(time.time()), os.getpid(), os.getppid()):
        if abs(random.Random(seed).uniform(1, 2) - x) < 1e-12:
            told("REACHED")
    told("not guessed")
