"""Deploys an agent that requires a secret, sets it, and resolves it as a run does.

Prints what happened, and never a value.
"""

import os
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

sys.path.insert(0, str(Path(__file__).parent / "gen"))
from superserve.secrets.v1 import agents_pb2, agents_pb2_grpc, runtime_pb2, runtime_pb2_grpc  # noqa: E402
from superserve.secrets.v1 import secrets_pb2, secrets_pb2_grpc, tokens_pb2, tokens_pb2_grpc  # noqa: E402

DOMAIN = "secrets.superserve.ai"
KEY = "ANTHROPIC_API_KEY"
TIMEOUT = 10  # seconds for a call
ATTEMPTS = 5
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


def detail(error, kind):
    """The detail of this kind that an error carries, or an empty one."""
    found = kind()
    status = rpc_status.from_call(error)
    for any_detail in status.details if status else ():
        if any_detail.Unpack(found):
            break
    return found


def reason(error):
    """The stable word for an error, such as `SECRET_NOT_FOUND`; programs go by it, and not by the sentence."""
    info = detail(error, error_details_pb2.ErrorInfo)
    return info.reason if info.domain == DOMAIN else ""


class Caller:
    """Calls with a token, and again when the server says after which pause. For calls that may be repeated."""

    def __init__(self, token):
        self._metadata = [("authorization", f"Bearer {token}")]

    def __call__(self, method, request):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return method(request, timeout=TIMEOUT, metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() not in PASSING or attempt == ATTEMPTS:
                    raise
                asked = detail(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds()
                print(f"waiting, as {reason(error)} asks", file=sys.stderr)
                time.sleep(asked or 0.25 * 2**attempt)


def connect(url):
    """A channel to the server at `http://HOST:PORT` or `https://HOST`."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials())
    return grpc.insecure_channel(parts.netloc)


def main():
    with connect(os.environ.get("SUPERSERVE_API_URL", "http://127.0.0.1:8080")) as channel:
        agents = agents_pb2_grpc.AgentsServiceStub(channel)
        secrets = secrets_pb2_grpc.SecretsServiceStub(channel)
        tokens = tokens_pb2_grpc.TokensServiceStub(channel)
        runtime = runtime_pb2_grpc.RuntimeServiceStub(channel)
        call = Caller(os.environ["SUPERSERVE_TOKEN"])

        required = [agents_pb2.RequiredSecret(name=KEY)]
        deploy = agents_pb2.DeployAgentRequest(name=f"client-{uuid.uuid4()}", required_secrets=required)
        agent = call(agents.DeployAgent, deploy).agent
        print("deployed")
        try:
            # A run's token may resolve, and reaches this agent alone
            grant = tokens_pb2.CreateTokenRequest(name="run", scopes=["secrets:resolve"], agent_ids=[agent.id])
            created = call(tokens.CreateToken, grant)
            call_as_run = Caller(created.text)
            resolve = runtime_pb2.ResolveSecretsRequest(agent_id=agent.id, run_id="example")

            try:
                call_as_run(runtime.ResolveSecrets, resolve)
            except grpc.RpcError as error:
                if reason(error) != "REQUIRED_SECRETS_MISSING":
                    raise
                unmet = detail(error, error_details_pb2.PreconditionFailure).violations
                print(f"missing: {', '.join(violation.subject for violation in unmet)}")

            # With a name of its own a set is done once, however often it is sent
            value = os.environ.get(KEY, "sk-ant-example")
            request = secrets_pb2.SetSecretsRequest(
                agent_id=agent.id, secrets={KEY: value}, idempotency_key=str(uuid.uuid4())
            )
            call(secrets.SetSecrets, request)
            listed = call(secrets.ListSecrets, secrets_pb2.ListSecretsRequest(agent_id=agent.id))
            print(f"set: {', '.join(listed.keys)}")

            try:
                call(secrets.DeleteSecret, secrets_pb2.DeleteSecretRequest(agent_id=agent.id, key="OTHER"))
            except grpc.RpcError as error:
                if reason(error) != "SECRET_NOT_FOUND":
                    raise
                print("not set: OTHER")

            environment = call_as_run(runtime.ResolveSecrets, resolve).env
            print(f"resolved: {', '.join(sorted(environment))}")
            call(tokens.RevokeToken, tokens_pb2.RevokeTokenRequest(token_id=created.token.id))
        finally:
            call(agents.DeleteAgent, agents_pb2.DeleteAgentRequest(agent_id=agent.id))
            print("deleted")


if __name__ == "__main__":
    main()
