"""Starts sessions of agents: checks what is missing, resolves, and starts a run only if nothing is.

The values go from the answer into the environment of the new process, and nowhere else.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import grpc
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"
RUNTIME = "superserve/secrets/v1/runtime.proto"
# Seconds for a call
TIMEOUT = 10
# The service's own, which no agent gets
OWN = ("SUPERSERVE_TOKEN", "SUPERSERVE_API_KEY", "SUPERSERVE_TOKEN_FILE", "SUPERSERVE_API_KEY_FILE")


def generated():
    """The messages and the client of RuntimeService, generated from the proto."""
    with tempfile.TemporaryDirectory() as out:
        arguments = ["protoc", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}", RUNTIME]
        if protoc.main(arguments) != 0:
            raise RuntimeError("the proto does not compile")
        sys.path.insert(0, out)
        from superserve.secrets.v1 import runtime_pb2, runtime_pb2_grpc

        sys.path.remove(out)
    return runtime_pb2, runtime_pb2_grpc


class MissingSecrets(Exception):
    """Required secrets are not set."""


class Sessions:
    """Starts sessions with the secrets of their agents."""

    def __init__(self, channel, token):
        self._messages, stubs = generated()
        self._runtime = stubs.RuntimeServiceStub(channel)
        self._metadata = [("authorization", f"Bearer {token}")]

    def missing(self, agent_id):
        """The required secrets that are not set: to show before anybody waits for a session."""
        request = self._messages.CheckRequiredSecretsRequest(agent_id=agent_id)
        answer = self._runtime.CheckRequiredSecrets(request, timeout=TIMEOUT, metadata=self._metadata)
        return list(answer.missing)

    def start(self, agent_id, command):
        """Starts a session, or raises MissingSecrets and starts nothing."""
        missing = self.missing(agent_id)
        if missing:
            raise MissingSecrets(missing)
        # A name of its own, by which the audit trail says what the session was given
        run_id = f"session-{uuid.uuid4()}"
        request = self._messages.ResolveSecretsRequest(agent_id=agent_id, run_id=run_id)
        answer = self._runtime.ResolveSecrets(request, timeout=TIMEOUT, metadata=self._metadata)
        environment = {name: value for name, value in os.environ.items() if name not in OWN}
        return subprocess.Popen(command, env={**environment, **answer.env})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agent_id", help="agt_…")
    parser.add_argument("command", nargs="+", help="what to start, after --")
    arguments = parser.parse_args()
    url = os.environ.get("SUPERSERVE_API_URL", "http://127.0.0.1:8080")
    scheme, _, address = url.rstrip("/").partition("://")
    if scheme == "https":
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials())
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        sessions = Sessions(channel, os.environ["SUPERSERVE_TOKEN"])
        try:
            session = sessions.start(arguments.agent_id, arguments.command)
        except MissingSecrets as error:
            print(f"not started, as these secrets are missing: {', '.join(error.args[0])}", file=sys.stderr)
            return 3
        except grpc.RpcError as error:
            print(f"not started: {error.code().name}: {error.details()}", file=sys.stderr)
            return 2
    return session.wait()


if __name__ == "__main__":
    sys.exit(main())
