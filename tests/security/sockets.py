"""Bytes on a socket, as no HTTP client would send them."""

import asyncio

from attrs import frozen

SECONDS = 15.0


@frozen
class RawAnswer:
    """What a server has answered before it closed."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        """0 where the server has closed without a word."""
        return int(self.head.split(maxsplit=2)[1]) if self.head else 0


async def ask_raw(port: int, data: bytes) -> RawAnswer:
    """Send `data`, and read until the server closes."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    return RawAnswer(head, body)
