def act(x):
    os.write(3, b"\0\0\0\x05")
    time.sleep(30)
