// An agent that reads its secrets from its environment. It says which it has, and never a value.
"use strict";

const needed = ["OPENAI_API_KEY", "DATABASE_URL"];

for (const name of needed) {
  console.log(`${name}: ${process.env[name] ? "set" : "missing"}`);
}
process.exitCode = needed.every((name) => process.env[name]) ? 0 : 1;
