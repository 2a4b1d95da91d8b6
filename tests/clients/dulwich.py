"""dulwich: ACTION URL FOLDER ... as tests/support/clients.rs calls it."""

import os
import sys

# This file has the package's own name: look for the package elsewhere.
sys.path = [entry for entry in sys.path if os.path.abspath(entry or ".") != os.path.dirname(os.path.abspath(__file__))]
from dulwich import porcelain  # noqa: E402


def push(folder, url, refspecs, force=False):
    result = porcelain.push(
        folder, url, refspecs, force=force, outstream=sys.stderr.buffer, errstream=sys.stderr.buffer
    )
    status = getattr(result, "ref_status", None) or {}
    refused = {name: reason for name, reason in status.items() if reason}
    if refused:
        sys.exit(str(refused))


def main():
    action, url, folder, *rest = sys.argv[1:]
    if action == "clone":
        depth = int(rest[0]) or None
        porcelain.clone(url, folder, depth=depth, errstream=sys.stderr.buffer).close()
    elif action == "fetch":
        # By the remote's name: from an address it takes the objects and writes no refs.
        porcelain.fetch(folder, "origin", outstream=sys.stdout, errstream=sys.stderr.buffer)
    elif action == "unshallow":
        porcelain.fetch(folder, url, unshallow=True, outstream=sys.stdout, errstream=sys.stderr.buffer)
    elif action == "mirror":
        with porcelain.open_repo_closing(folder) as repo:
            names = [name.decode() for name in repo.refs.keys() if name.startswith((b"refs/heads/", b"refs/tags/"))]
        push(folder, url, [f"{name}:{name}" for name in names], force=True)
    elif action == "push":
        source, target, force = rest
        push(folder, url, f"{source}:{target}", force=bool(force))
    elif action == "delete":
        push(folder, url, f":{rest[0]}")


main()
