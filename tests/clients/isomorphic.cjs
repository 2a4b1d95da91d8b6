// isomorphic-git: ACTION URL FOLDER ... as tests/support/clients.rs calls it.
const fs = require("fs");
const git = require("isomorphic-git");
const http = require("isomorphic-git/http/node");

async function push(options) {
  const result = await git.push(options);
  for (const [name, status] of Object.entries(result.refs || {})) {
    if (!status.ok) throw new Error(`${name}: ${status.error}`);
  }
  if (!result.ok) throw new Error(String(result.error));
}

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
  } else if (action === "unshallow") {
    // It has no word for "everything"; this depth is git's.
    await git.fetch({ ...common, depth: 2147483647 });
  } else if (action === "mirror") {
    // It pushes one ref at a time.
    const branches = (await git.listBranches({ fs, dir })).map((name) => `refs/heads/${name}`);
    const tags = (await git.listTags({ fs, dir })).map((name) => `refs/tags/${name}`);
    for (const name of [...branches, ...tags]) {
      asked = 0;
      await push({ ...common, ref: name, remoteRef: name, force: true });
    }
  } else if (action === "push") {
    const [source, target, force] = rest;
    await push({ ...common, ref: source, remoteRef: target, force: Boolean(force) });
  } else if (action === "delete") {
    // It still wants the name of some local branch.
    await push({ ...common, ref: "refs/heads/main", remoteRef: rest[0], delete: true });
  }
}

main().catch((error) => {
  const body = error.data && error.data.response ? `\n${error.data.response}` : "";
  process.stderr.write(`${error}${body}\n`);
  process.exit(1);
});
