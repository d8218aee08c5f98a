"""A stream of bytes by TCP: `sink ADDRESS` counts what comes and says it for each line it reads, `source
ADDRESS` sends until it is stopped."""

import socket
import sys
import threading

PORT = 5001


def sink(address: str) -> None:
    count = 0

    def receive(server: socket.socket) -> None:
        nonlocal count
        with server.accept()[0] as connection:
            while data := connection.recv(1 << 16):
                count += len(data)

    with socket.create_server((address, PORT)) as server:
        threading.Thread(target=receive, args=(server,), daemon=True).start()
        print("ready", flush=True)
        for _ in sys.stdin:
            print(count, flush=True)


def source(address: str) -> None:
    with socket.create_connection((address, PORT)) as connection:
        while True:
            connection.sendall(bytes(1 << 16))


if __name__ == "__main__":
    {"sink": sink, "source": source}[sys.argv[1]](sys.argv[2])
