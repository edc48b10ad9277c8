// Validates manifests (JSON on standard input) of kinds that operators add to Kubernetes, by the schemas of the operators.
// Prints for each manifest a list of problems. The schemas permit unknown fields; here a field of the spec that no schema
// reads is a problem as well, since Kubernetes would drop it.
import { readFileSync } from "node:fs";

const PACKAGES = { "monitoring.coreos.com": "prometheus-operator", "keda.sh": "keda" };

// Returns the value; when a field of it is read, the path of that field is removed from `unread`.
function watched(value, path, unread) {
  if (value === null || typeof value !== "object") return value;
  for (const key of Object.keys(value)) unread.add(`${path}/${key}`);
  return new Proxy(value, {
    get(target, key) {
      const at = `${path}/${String(key)}`;
      unread.delete(at);
      return Object.hasOwn(target, key) ? watched(target[key], at, unread) : target[key];
    },
  });
}

const answers = [];
for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  const group = manifest.apiVersion.split("/")[0];
  const path = `@kubernetes-models/${PACKAGES[group]}/${manifest.apiVersion}/${manifest.kind}`;
  const Model = (await import(path))[manifest.kind];
  const unread = new Set();
  const model = new Model(manifest);
  model.spec = watched(manifest.spec, "/spec", unread);
  let problems = [];
  try {
    model.validate();
  } catch (error) {
    problems = [error.message];
  }
  answers.push([...problems, ...[...unread].map((at) => `${at} is unknown`)]);
}
console.log(JSON.stringify(answers));
