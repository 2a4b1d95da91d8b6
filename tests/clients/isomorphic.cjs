// isomorphic-git: ACTION URL FOLDER ... as tests/support/clients.rs calls it.
const fs = require("fs");
const git = require("isomorphic-git");
const http = require("isomorphic-git/http/node");

async function main() {
  const [action, address, dir, ...rest] = process.argv.slice(2);
  const url = new URL(address);
  const auth = {
    username: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
  };
  url.username = "";
  url.password = "";
  let asked = 0;
  const common = {
    fs,
    http,
    dir,
    url: url.href,
    // A second question means that the first answer was wrong.
    onAuth: () => (asked++ === 0 ? auth : { cancel: true }),
    onMessage: (text) => process.stderr.write(`remote: ${text}`),
  };
  if (action === "clone") {
    const depth = Number(rest[0]) || undefined;
    await git.clone({ ...common, depth, singleBranch: false });
  } else if (action === "fetch") {
    await git.fetch({ ...common, tags: true });
  } else {
    // To delete, it still wants the name of some local branch.
    const [source, target, force] = action === "push" ? rest : ["refs/heads/main", rest[0], ""];
    const result = await git.push({
      ...common,
      ref: source,
      remoteRef: target,
      force: Boolean(force),
      delete: action === "delete",
    });
    for (const [name, status] of Object.entries(result.refs || {})) {
      if (!status.ok) throw new Error(`${name}: ${status.error}`);
    }
    if (!result.ok) throw new Error(String(result.error));
  }
}

main().catch((error) => {
  const body = error.data && error.data.response ? `\n${error.data.response}` : "";
  process.stderr.write(`${error}${body}\n`);
  process.exit(1);
});
