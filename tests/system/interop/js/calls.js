// Calls as the codec `json` of the other SDKs makes them.

import { createHash } from "node:crypto";

export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.keys(value).sort().map(key => `${JSON.stringify(key)}:${canonical(value[key])}`);
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(value);
}

export function encode(name, args) {
  const hash = createHash("sha256").update(canonical([name, args]), "utf8").digest("hex");
  return { hash, payload: Buffer.from(canonical(args)) };
}
