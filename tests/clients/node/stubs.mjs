// Node stubs made from `proto/` with proto-loader, and the details of an error.

import fs from "node:fs";
import path from "node:path";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

// tests/run runs a copy of these files beside the packages they need.
const PROTO = process.env.TUTTI_PROTO ?? new URL("../../../proto", import.meta.url).pathname;

const files = fs.readdirSync(PROTO, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".proto"));
const definition = protoLoader.loadSync(files, {
  includeDirs: [PROTO],
  keepCase: true,
  enums: String,
  longs: Number,
  defaults: true,
  oneofs: true,
});

/** All packages of the mesh: `tutti.router.v1.RouterService` is a client's class. */
export const { tutti } = grpc.loadPackageDefinition(definition);

/** A unary call as a promise; gives up after `seconds`. */
export function call(client, method, request, seconds = 30) {
  const deadline = Date.now() + seconds * 1000;
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

const rpc = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Detail { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Detail details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message BadRequest {
    message FieldViolation { string field = 1; string description = 2; }
    repeated FieldViolation field_violations = 1;
  }
`, { keepCase: true }).root;

/** The typed details of a gRPC error, by the last part of their name. */
export function details(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const found = {};
  for (const { type_url, value } of rpc.lookupType("google.rpc.Status").decode(bytes).details) {
    const name = type_url.split("/").pop();
    const type = rpc.lookup(name);
    if (type) found[name.split(".").pop()] = type.decode(value);
  }
  return found;
}
