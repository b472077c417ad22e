"""The door of the API server: clients come in through it, so that it can be shut at once, and opened again at once.

To a client a shut door is a server that is gone: its connections break, and new ones are refused. Starting the real
server again takes ten seconds of the processor, for OME's definitions.

    python kube_door.py ROOT PORT SERVER_PORT      ROOT: of the cluster, by which it is found
"""

import asyncio
import sys
from contextlib import suppress

CHUNK = 1 << 16


async def serve(port: int, server_port: int) -> None:
    """Until killed."""

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server_port)
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        writer.close()

    await (await asyncio.start_server(lead, "127.0.0.1", port, backlog=256)).serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[2]), int(sys.argv[3])))
