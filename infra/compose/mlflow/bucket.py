"""Makes the bucket of MLflow's artifacts where there is none yet."""

import os
import sys

import boto3

bucket = sys.argv[1]
client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
    client.create_bucket(Bucket=bucket)
