import threading

def act(x):
    count = 0
    try:
        while count < 5000:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            count += 1
    except RuntimeError:
        told(f"{count} threads")
    told("REACHED")
