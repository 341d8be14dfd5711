def act(x):
    print("\x1b[2J\x1b]0;owned\x07<script>alert(1)</script> \u202e passed", flush=True)
    raise ValueError("\x1b[31m\x1b[1A ✓ passed\r<script>alert(1)</script>\u202e")
