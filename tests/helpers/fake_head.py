"""A fake head node that answers only the queries of the preflight."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import grpc
from ray.core.generated import gcs_pb2, gcs_service_pb2


class Head(grpc.GenericRpcHandler):
    """Answer with this metadata and these nodes; with a `token`, refuse calls without it."""

    def __init__(self, metadata, nodes, token=None):
        self._token = token
        self._replies = {
            "GetClusterId": gcs_service_pb2.GetClusterIdReply(cluster_id=b"1"),
            "InternalKVGet": gcs_service_pb2.InternalKVGetReply(
                value=json.dumps(metadata).encode()
            ),
            "GetAllNodeInfo": gcs_service_pb2.GetAllNodeInfoReply(
                node_info_list=[gcs_pb2.GcsNodeInfo(**node) for node in nodes]
            ),
        }

    def service(self, details):
        reply = self._replies[details.method.rpartition("/")[2]]
        sent = dict(details.invocation_metadata).get("authorization")

        def answer(request, context):
            if self._token is not None and sent != f"Bearer {self._token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return reply.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def serving(head):
    """Serve a head node and yield its address."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=(head,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)
