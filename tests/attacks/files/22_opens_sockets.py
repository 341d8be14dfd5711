FAMILIES = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_CAN")

def talk_to_the_runner():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(PLACES["socket"])
    hello = b"D\0\0\0\2S\0\0\0\2opS\0\0\0\5helloS\0\0\0\x08protocolI\0\0\0\1\1"
    connection.sendall(len(hello).to_bytes(4, "big") + hello)
    if not connection.recv(1):
        raise PermissionError(13, "it hangs up")


def act(x):
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)
    told(
        *(tried(lambda: socket.socket(getattr(socket, name), kind)) for name in FAMILIES for kind in kinds),
        tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)),
        tried(talk_to_the_runner),
        tried(lambda: socket.socket(socket.AF_UNIX).connect("\0verify-attack")),
    )
