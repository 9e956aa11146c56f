// Deploys an agent that requires a secret, sets it, and resolves it as a run does: over gRPC, or with `grpc-web` as
// argument over gRPC-Web. Prints what happened, and never a value.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { type CallOptions, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";

import { ErrorInfoSchema, PreconditionFailureSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { AgentsService } from "./gen/superserve/secrets/v1/agents_pb.js";
import { RuntimeService } from "./gen/superserve/secrets/v1/runtime_pb.js";
import { SecretsService } from "./gen/superserve/secrets/v1/secrets_pb.js";
import { TokensService } from "./gen/superserve/secrets/v1/tokens_pb.js";

const domain = "secrets.superserve.ai";
const key = "ANTHROPIC_API_KEY";
const timeoutMs = 10_000;
const attempts = 5;

/** The first detail of this kind that an error carries. */
function detail<Desc extends DescMessage>(error: unknown, schema: Desc): MessageShape<Desc> | undefined {
  return ConnectError.from(error).findDetails(schema)[0];
}

/** The stable word for an error, such as `SECRET_NOT_FOUND`; programs go by it, and not by the sentence. */
function reason(error: unknown): string {
  const info = detail(error, ErrorInfoSchema);
  return info?.domain === domain ? info.reason : "";
}

/** Calls again when the server says after which pause. For calls that may be repeated. */
const retrying: Interceptor = (next) => async (request) => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await next(request);
    } catch (error) {
      const isPassing = [Code.Unavailable, Code.ResourceExhausted].includes(ConnectError.from(error).code);
      if (request.stream || !isPassing || attempt === attempts) {
        throw error;
      }
      const asked = detail(error, RetryInfoSchema)?.retryDelay;
      console.error(`waiting, as ${reason(error)} asks`);
      await sleep(asked ? Number(asked.seconds) * 1000 + asked.nanos / 1e6 : 250 * 2 ** attempt);
    }
  }
};

/** The options of a call that shows this token. */
function withToken(token: string): CallOptions {
  return { headers: { authorization: `Bearer ${token}` } };
}

async function main(): Promise<void> {
  const options = {
    baseUrl: process.env["SUPERSERVE_API_URL"] ?? "http://127.0.0.1:8080",
    defaultTimeoutMs: timeoutMs,
    interceptors: [retrying],
  };
  const transport =
    process.argv[2] === "grpc-web"
      ? createGrpcWebTransport({ ...options, httpVersion: "1.1" })
      : createGrpcTransport(options);
  const agents = createClient(AgentsService, transport);
  const secrets = createClient(SecretsService, transport);
  const tokens = createClient(TokensService, transport);
  const runtime = createClient(RuntimeService, transport);
  const admin = withToken(process.env["SUPERSERVE_TOKEN"] ?? "");

  const deploy = { name: `client-${randomUUID()}`, requiredSecrets: [{ name: key }] };
  const { agent } = await agents.deployAgent(deploy, admin);
  const agentId = agent?.id ?? "";
  console.log("deployed");
  try {
    // A run's token may resolve, and reaches this agent alone
    const grant = { name: "run", scopes: ["secrets:resolve"], agentIds: [agentId] };
    const created = await tokens.createToken(grant, admin);
    const run = withToken(created.text);
    const resolve = { agentId, runId: "example" };

    try {
      await runtime.resolveSecrets(resolve, run);
    } catch (error) {
      if (reason(error) !== "REQUIRED_SECRETS_MISSING") {
        throw error;
      }
      const unmet = detail(error, PreconditionFailureSchema)?.violations ?? [];
      console.log(`missing: ${unmet.map((violation) => violation.subject).join(", ")}`);
    }

    // With a name of its own a set is done once, however often it is sent
    const value = process.env[key] ?? "sk-ant-example";
    await secrets.setSecrets({ agentId, secrets: { [key]: value }, idempotencyKey: randomUUID() }, admin);
    const listed = await secrets.listSecrets({ agentId }, admin);
    console.log(`set: ${listed.keys.join(", ")}`);

    try {
      await secrets.deleteSecret({ agentId, key: "OTHER" }, admin);
    } catch (error) {
      if (reason(error) !== "SECRET_NOT_FOUND") {
        throw error;
      }
      console.log("not set: OTHER");
    }

    const { env } = await runtime.resolveSecrets(resolve, run);
    console.log(`resolved: ${Object.keys(env).sort().join(", ")}`);
    await tokens.revokeToken({ tokenId: created.token?.id ?? "" }, admin);
  } finally {
    await agents.deleteAgent({ agentId }, admin);
    console.log("deleted");
  }
}

await main();
