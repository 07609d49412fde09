"""A client to be frozen: `python -m tests.deploy.frozen PORT CERTIFICATE PATH`, whose kernel keeps little for it.

Prints `reading` when the first message is there. Comes back with its last id until the stream's end; then prints, as
JSON, how often it connected and a digest of the text that the tokens' offsets make.
"""

import hashlib
import http.client
import json
import socket
import ssl
import sys

from tests.sse.eventstream import EventStreamParser, Message
from tests.sse.texts import from_deltas


class Connection(http.client.HTTPConnection):
    """TLS over a socket with a small receive buffer, which has to be set before it connects."""

    def __init__(self, port: int, certificate: str) -> None:
        super().__init__("127.0.0.1", port, timeout=30)
        self._context = ssl.create_default_context(cafile=certificate)

    def connect(self) -> None:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(self.timeout)
        plain.connect((self.host, self.port))
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)


def main(port: str, certificate: str, path: str) -> None:
    messages: list[Message] = []
    connections, last = 0, ""
    while not messages or messages[-1]["type"] != "stream_end":
        connections += 1
        connection = Connection(int(port), certificate)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        connection.request("GET", path, headers=headers)
        response, parser = connection.getresponse(), EventStreamParser()
        try:
            while chunk := response.read1(65536):
                parser.feed(chunk)
                if connections == 1 and not messages and parser.events:
                    print("reading", flush=True)
                messages += [event.message for event in parser.events]
                parser.events.clear()
        except (OSError, http.client.HTTPException):  # cut off
            pass
        last = parser.last_event_id or last
        connection.close()
    digest = hashlib.sha256(from_deltas(messages).encode()).hexdigest()
    print(json.dumps({"connections": connections, "digest": digest}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
