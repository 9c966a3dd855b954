"""Fills the buckets of an S3 server that is not ours, by the library that everybody uses. Blocks, so it is called in threads."""

from __future__ import annotations

import json
from typing import Any

ACCESS_KEY, SECRET_KEY = "TESTS", "tests"
METADATA = "x-amz-meta-"


def connect(port: int, **changes: Any) -> Any:
    """Return an S3 client for a server on this machine."""
    import boto3
    from botocore.config import Config

    options = {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "region_name": "us-east-1",
        "config": Config(s3={"addressing_style": "path"}),
    }
    return boto3.client("s3", **(options | changes))


def make_bucket(client: Any, name: str, *, public: bool, listed: bool) -> None:
    """Make a bucket whose objects anybody may read, or nobody without credentials."""
    client.create_bucket(Bucket=name)
    if public:
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(_policy(name, listed=listed)))


def _policy(name: str, *, listed: bool) -> dict[str, Any]:
    everything = f"arn:aws:s3:::{name}/*"
    rights = [("s3:GetObject", everything)] + [("s3:ListBucket", f"arn:aws:s3:::{name}")] * listed
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": [action], "Resource": [resource]}
            for action, resource in rights
        ],
    }


def put(
    client: Any, bucket: str, key: str, body: bytes, headers: dict[str, str], *, public: bool, **more: str
) -> None:
    """Store an object with metadata."""
    metadata = {name.removeprefix(METADATA): value for name, value in headers.items()}
    access = {"ACL": "public-read"} if public else {}
    client.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata, **access, **more)
