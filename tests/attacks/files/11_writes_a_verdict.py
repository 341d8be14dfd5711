import sqlite3

def act(x):
    results = PLACES["results"]
    told(
        tried(lambda: open(results, "ab")),
        tried(lambda: open(results + "-wal", "ab")),
        tried(lambda: open(os.path.dirname(results) + "/passed", "w")),
        tried(lambda: sqlite3.connect(results).execute("UPDATE job SET state = 'finished'")),
    )
