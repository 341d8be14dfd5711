def act(x):
    for number in range(300_000):
        os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY))
