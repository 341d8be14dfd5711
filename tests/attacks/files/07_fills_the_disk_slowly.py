def act(x):
    for number in range(12):
        with open(f"{number}", "wb") as file:
            file.write(bytes(4 * 1024 * 1024))
        time.sleep(0.2)
    return x + 1
