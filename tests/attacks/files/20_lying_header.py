def act(x):
    os.write(3, (2**31).to_bytes(4, "big") + b"x" * 100)
    time.sleep(30)
