"""moto's server with the tests' buckets and users. Prints its address and their keys, and ends with its standard input."""

import json
import os
import sys

import boto3
import requests
from botocore.config import Config
from moto.server import ThreadedMotoServer

RIGHTS = {
    "everything": ["s3:*"],
    "archive": ["s3:PutObject", "s3:GetObject", "s3:ListBucket"],
    "without-put": ["s3:GetObject", "s3:ListBucket", "s3:DeleteObject"],
    "without-get": ["s3:PutObject", "s3:ListBucket", "s3:DeleteObject"],
    "without-list": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
}


def amazon_recognizes_checksums(serve):
    """Of the headers that Amazon accepts where a bucket has a lock, moto knows only the SDK's own."""

    def served(environment, start):
        if "HTTP_X_AMZ_CHECKSUM_SHA256" in environment:
            environment.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", "SHA256")
        return serve(environment, start)

    return served


def client(service, endpoint):
    keys = {"aws_access_key_id": "setup", "aws_secret_access_key": "setup"}
    return boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", config=Config(proxies={}), **keys)


def user(iam, name, actions):
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return [key["AccessKeyId"], key["SecretAccessKey"]]


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    server._server.app = amazon_recognizes_checksums(server._server.app)
    endpoint = f"http://{host}:{port}"

    s3 = client("s3", endpoint)
    for bucket in ["wal", "versioned"]:
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    retention = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": retention}
    s3.put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=lock)
    iam = client("iam", endpoint)
    keys = {name: user(iam, name, actions) for name, actions in RIGHTS.items()}
    # From here on, signatures and rights count.
    requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=60).raise_for_status()

    print(json.dumps({"endpoint": endpoint, "keys": keys}), flush=True)
    sys.stdin.read()
    os._exit(0)


main()
