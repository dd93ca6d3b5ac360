// From a user's token to results, in TypeScript: `node start.ts` (Node 22.18 or newer), or in a page of an origin that
// the operator lists. The environment as in start.sh. All types are inferred, so that it is JavaScript too:
// `node --input-type=module < start.ts` with an older Node.
const env = (name = "") => process.env[name] ?? "";

const call = async (method = "GET", path = "/", body = "", headers = {}) => {
  const answer = await fetch(env("GDI_PORTAL") + path, {
    method,
    headers: { Authorization: `Bearer ${env("GDI_TOKEN")}`, "Content-Type": "application/json", ...headers },
    ...(body ? { body } : {}),
  });
  if (!answer.ok) {
    const problem = await answer.json();
    throw new Error(`${problem.detail} ${problem.action} (${problem.type})`);
  }
  return answer;
};

const datasets = JSON.parse(env("GDI_DATASETS"));
const start = JSON.stringify({ workflow: env("GDI_WORKFLOW"), datasets, consent: { days: 1 } });
const key = { "Idempotency-Key": crypto.randomUUID() }; // the same for each try
let run = await (await call("POST", "/v1/runs", start, key)).json();
while (!["succeeded", "empty", "failed", "refused", "stopped"].includes(run.state)) {
  await new Promise((resume) => setTimeout(resume, 2000));
  run = await (await call("GET", `/v1/runs/${run.id}`)).json();
}
console.error(run.sentence);
console.log(await (await call("GET", `/v1/runs/${run.id}/files/answer.tsv`)).text());
export {};
