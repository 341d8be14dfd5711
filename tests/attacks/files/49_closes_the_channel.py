def act(x):
    os.close(3)
    time.sleep(30)
