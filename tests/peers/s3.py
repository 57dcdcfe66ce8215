"""
An S3 server in this process, for tests and to be started by hand::

    python -m tests.peers.s3 --port 9400
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import NamedTuple

import boto3
from moto.server import ThreadedMotoServer

from processors.settings.objects import ObjectSettings

BUCKET = "attachments"
REGION = "us-east-1"


class S3Peer(NamedTuple):
    """
    A server that runs.

    Attributes:
        url: Its address.
    """

    url: str

    def settings(self, bucket: str = BUCKET) -> ObjectSettings:
        """Return the settings with which processors find it."""
        return ObjectSettings(
            url=f"s3://{bucket}/files",
            endpoint=self.url,
            region=REGION,
            access_key_id="key",
            secret_access_key="secret",
            path_style=True,
            allow_http=True,
        )

    def empty(self) -> None:
        """Forget everything but an empty bucket."""
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        with contextlib.closing(client):
            for each in client.list_buckets()["Buckets"]:
                for page in client.get_paginator("list_objects_v2").paginate(Bucket=each["Name"]):
                    for found in page.get("Contents", ()):
                        client.delete_object(Bucket=each["Name"], Key=found["Key"])
                client.delete_bucket(Bucket=each["Name"])
            client.create_bucket(Bucket=BUCKET)


@contextlib.contextmanager
def serve_s3(port: int) -> Iterator[S3Peer]:
    """Run a server with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        peer = S3Peer(f"http://127.0.0.1:{port}")
        peer.empty()
        yield peer
    finally:
        server.stop()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="An S3 server that keeps objects in memory.")
    parser.add_argument("--port", type=int, default=9400)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with serve_s3(parser.parse_args().port) as peer:
        print(f"S3 at {peer.url}, bucket {BUCKET}, any key", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
